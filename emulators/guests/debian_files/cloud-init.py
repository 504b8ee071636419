#!/usr/bin/python3
"""cloud-init without what its own modules and these stages can do without: most of its start is importing.

Neither the schema check of a `#cloud-config` (which only warns) nor the second library that guesses encodings is needed.
"""

import sys

for name in ("jsonschema", "chardet"):
    sys.modules[name] = None

from cloudinit.cmd.main import main  # noqa: E402

sys.exit(main())
