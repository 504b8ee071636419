#!/usr/bin/python3
"""cloud-init without two imports that take an emulated processor seconds.

The schema check of a `#cloud-config` only warns, and cloud-init does without where there is no `jsonschema`; `requests`
has another module to guess encodings, and warns that it is not the one of its choice.
"""

import sys
import warnings

sys.modules.update({"jsonschema": None, "chardet": None})
warnings.filterwarnings("ignore", module="requests")

from cloudinit.cmd.main import main  # noqa: E402

sys.exit(main())
