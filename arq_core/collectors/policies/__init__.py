"""Published policies: read from their archives, measured here, and acting."""
