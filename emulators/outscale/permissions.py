"""Changing who else may use an OMI or a snapshot."""

from __future__ import annotations

import re

from emulators.outscale import errors
from emulators.outscale.bodies import PermissionsChange
from emulators.outscale.records import Permissions


def change(former: Permissions, asked: PermissionsChange) -> Permissions:
    """Permissions after `Additions` or `Removals`.

    Raises:
        ApiError: both or none of them are given, or something that is no account id.
    """
    if (asked.additions is None) == (asked.removals is None):
        raise errors.invalid_value(errors.INVALID_PARAMETER_SET, "Either Additions or Removals")
    part = asked.additions or asked.removals
    assert part is not None
    for account_id in part.account_ids:
        if re.fullmatch(r"\d{12}", account_id) is None:
            raise errors.invalid_value(errors.INVALID_VALUE, f"'{account_id}' is no account id")
    if asked.additions is not None:
        accounts = list(dict.fromkeys([*former.account_ids, *part.account_ids]))
        return Permissions(account_ids=accounts, global_permission=former.global_permission or part.global_permission)
    accounts = [account_id for account_id in former.account_ids if account_id not in part.account_ids]
    return Permissions(account_ids=accounts, global_permission=former.global_permission and not part.global_permission)
