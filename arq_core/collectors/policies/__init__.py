"""How the policies that the collectors use were trained; no other room needs it."""
