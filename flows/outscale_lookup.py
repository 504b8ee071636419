"""`python -m flows.outscale_lookup`: choose an OMI and print its id (Packer's data source `outscale-omi`)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime

from prefect import flow
from prefect.logging import get_run_logger
from pydantic import BaseModel, ValidationError

from blocks.errors import BakeryError, DefinitionError, Mistake
from blocks.outscale.credentials import OutscaleCredentialsReference, find_credentials
from blocks.outscale.models import Image
from blocks.references import SecretReference
from flows.yaml_file import option_path
from tasks.outscale.lookup import NameAndValue, OmiLookup, find_omi
from tasks.outscale.source import whose_account


class FoundOmi(BaseModel):
    """What the data source says of an OMI."""

    id: str
    name: str
    creation_date: datetime | None
    owner: str
    """Account id."""
    owner_name: str
    """Account alias."""
    tags: dict[str, str]

    @classmethod
    def of(cls, image: Image) -> FoundOmi:
        """From what the region says."""
        return cls(
            id=image.image_id,
            name=image.image_name,
            creation_date=image.creation_date,
            owner=image.account_id,
            owner_name=image.account_alias,
            tags={tag.key: tag.value for tag in image.tags},
        )


@flow(name="find-outscale-omi", persist_result=False)
async def find_outscale_omi(
    owners: list[str],
    filters: dict[str, str | list[str]] | None = None,
    filter: list[NameAndValue] | None = None,  # noqa: A002 (the plugin's name)
    most_recent: bool = False,
    credentials: OutscaleCredentialsReference | None = None,
    region: str | None = None,
    custom_endpoint_oapi: str | None = None,
    access_key: SecretReference | None = None,
    secret_key: SecretReference | None = None,
    profile: str | None = None,
    insecure_skip_tls_verify: bool = False,
) -> FoundOmi:
    """Choose an OMI: the one that matches, or the newest of those that do.

    Args:
        owners: Account ids or aliases, one of which owns it; self is the account that asks.
        filters: Keys and values such as image-name: Debian-12-*; a value may hold * and ?, or be a list.
        filter: The same as name and value, for keys that occur twice.
        most_recent: Of several that match take the newest; else that is an error.
        credentials: An OUTSCALE Credentials block. Without it: the options below, a profile, or the environment.
        region: Default: the profile's, OSC_REGION, eu-west-2.
        custom_endpoint_oapi: URL of the API up to and without the action.
        access_key: Where the access key is.
        secret_key: Where the secret key is.
        profile: A profile of ~/.osc/config.json on the host that runs this.
        insecure_skip_tls_verify: Accept any certificate of the API.
    """
    found = await look_up(
        {"owners": owners, "filters": filters or {}, "filter": filter or [], "most_recent": most_recent},
        credentials=credentials,
        region=region,
        custom_endpoint_oapi=custom_endpoint_oapi,
        access_key=access_key,
        secret_key=secret_key,
        profile=profile,
        insecure_skip_tls_verify=insecure_skip_tls_verify,
    )
    get_run_logger().info("OMI %s: %s", found.name, found.id)
    return found


async def look_up(
    lookup: OmiLookup | dict[str, object],
    *,
    credentials: OutscaleCredentialsReference | None = None,
    region: str | None = None,
    custom_endpoint_oapi: str | None = None,
    access_key: SecretReference | None = None,
    secret_key: SecretReference | None = None,
    profile: str | None = None,
    insecure_skip_tls_verify: bool = False,
) -> FoundOmi:
    """`find_outscale_omi` without Prefect.

    Raises:
        DefinitionError: the lookup has no owners, or keys that there are not.
        NotFound: no OMI matches.
        InvalidRequest: several do, and the newest was not asked for.
    """
    try:
        wanted = OmiLookup.model_validate(lookup)
    except ValidationError as error:
        raise DefinitionError(
            [Mistake(option_path(detail["loc"]) or "lookup", detail["msg"]) for detail in error.errors()],
            source="the lookup",
        ) from None
    found = await find_credentials(
        block=credentials,
        region=region,
        custom_endpoint_oapi=custom_endpoint_oapi,
        access_key=access_key,
        secret_key=secret_key,
        profile=profile,
        insecure_skip_tls_verify=insecure_skip_tls_verify,
    )
    async with found.get_client() as client:
        account = await whose_account(client)
        return FoundOmi.of(await find_omi(client, wanted, account.account_id))


def main() -> int:
    """Read the command line, look, print the id, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.outscale_lookup",
        description="Choose an OMI and print its id.",
        epilog="Credentials: --profile, else OSC_PROFILE, else OSC_ACCESS_KEY and OSC_SECRET_KEY.",
    )
    parser.add_argument(
        "--owner",
        action="append",
        required=True,
        metavar="ACCOUNT",
        help="id or alias of an account that may own it, or self; repeatable",
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what has to match, such as image-name=Debian-12-*; repeatable",
    )
    parser.add_argument("--most-recent", action="store_true", help="of several that match take the newest")
    parser.add_argument("--json", action="store_true", help="print all that is known of it, as JSON")
    parser.add_argument("--region", metavar="REGION", help="default: the profile's, OSC_REGION, eu-west-2")
    parser.add_argument("--profile", metavar="PROFILE", help="a profile of ~/.osc/config.json")
    parser.add_argument("--insecure-skip-tls-verify", action="store_true", help="accept any certificate")
    given = parser.parse_args()
    blocks = [dict(zip(("name", "value"), text.split("=", 1), strict=False)) for text in given.filter]
    try:
        found = asyncio.run(
            look_up(
                {"owners": given.owner, "filter": blocks, "most_recent": given.most_recent},
                region=given.region,
                profile=given.profile,
                insecure_skip_tls_verify=given.insecure_skip_tls_verify,
            )
        )
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 2
    except BakeryError as error:
        print(error, file=sys.stderr)
        return 1
    print(found.model_dump_json(indent=2) if given.json else found.id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
