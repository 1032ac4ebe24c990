"""Imported by processes of our own, not by `import arq_core`: what they need not import is missing.

`rfc3987_syntax` checks a kind of address that no notebook holds. jsonschema, which nbformat needs,
takes it where it is installed, and its grammars are then compiled in every process that reads
a notebook or builds pages. jsonschema does without.
"""

import sys
from typing import cast

MISSING = "rfc3987_syntax"
# what Python keeps of a module that cannot be imported
cast(dict, sys.modules).setdefault(MISSING, None)
