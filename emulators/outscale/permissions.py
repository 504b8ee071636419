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
    if asked.additions is not None and asked.removals is not None:
        raise errors.invalid_combination("Additions, Removals")
    part = asked.additions or asked.removals
    if part is None:
        raise errors.missing_parameter("Additions or Removals")
    for account_id in part.account_ids:
        if re.fullmatch(r"\d{12}", account_id, re.ASCII) is None:
            raise errors.invalid_value(errors.MALFORMED_ID, f"The AccountId '{account_id}' is malformed.")
    if asked.additions is not None:
        accounts = list(dict.fromkeys([*former.account_ids, *part.account_ids]))
        return Permissions(account_ids=accounts, global_permission=former.global_permission or part.global_permission)
    accounts = [account_id for account_id in former.account_ids if account_id not in part.account_ids]
    return Permissions(account_ids=accounts, global_permission=former.global_permission and not part.global_permission)
