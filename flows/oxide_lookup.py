"""`python -m flows.oxide_lookup NAME`: find an image and print its id (Packer's data source `oxide-image`)."""

from __future__ import annotations

import argparse
import asyncio
import sys

from prefect import flow
from prefect.logging import get_run_logger
from pydantic import ValidationError

from blocks.errors import BakeryError, DefinitionError, Mistake
from blocks.oxide.credentials import OxideCredentialsReference, find_credentials
from blocks.references import SecretReference
from tasks.oxide.lookup import find_image
from tasks.oxide.option_types import ImageByName


@flow(name="find-oxide-image", persist_result=False)
async def find_oxide_image(
    name: str,
    project: str | None = None,
    credentials: OxideCredentialsReference | None = None,
    host: str | None = None,
    token: SecretReference | None = None,
    profile: str | None = None,
    insecure_skip_verify: bool = False,
) -> str:
    """Find an image by name or id, and return its id.

    Args:
        name: Name or id of the image.
        project: Name or id of the project whose image it is. Without one it is the silo's.
        credentials: An Oxide Credentials block. Without it: host and token, a profile, or the environment.
        host: URL of the region's API.
        token: Where the token is.
        profile: A profile of ~/.config/oxide/credentials.toml on the host that runs this.
        insecure_skip_verify: Accept any certificate of the region's API.
    """
    image_id = await look_up(
        name,
        project,
        credentials=credentials,
        host=host,
        token=token,
        profile=profile,
        insecure_skip_verify=insecure_skip_verify,
    )
    get_run_logger().info("Image %s: %s", name, image_id)
    return image_id


async def look_up(
    name: str,
    project: str | None = None,
    *,
    credentials: OxideCredentialsReference | None = None,
    host: str | None = None,
    token: SecretReference | None = None,
    profile: str | None = None,
    insecure_skip_verify: bool = False,
) -> str:
    """`find_oxide_image` without Prefect.

    Raises:
        DefinitionError: name or project can be none.
        NotFound: there is no such image; the error lists what there is.
    """
    try:
        choice = ImageByName(name=name, project=project)
    except ValidationError as error:
        mistakes = [Mistake(str(detail["loc"][0]), detail["msg"], str(detail["input"])) for detail in error.errors()]
        raise DefinitionError(mistakes) from None
    found = await find_credentials(
        block=credentials, host=host, token=token, profile=profile, insecure_skip_verify=insecure_skip_verify
    )
    async with found.get_client() as client:
        return (await find_image(client, choice)).id


def main() -> int:
    """Read the command line, look, print the id, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.oxide_lookup",
        description="Find an image on an Oxide region and print its id.",
        epilog="Credentials: --profile, else OXIDE_PROFILE, else OXIDE_HOST and OXIDE_TOKEN, else the default profile.",
    )
    parser.add_argument("name", metavar="NAME", help="name or id of the image")
    parser.add_argument("--project", metavar="P", help="the project whose image it is; without one it is the silo's")
    parser.add_argument("--profile", metavar="PROFILE", help="a profile of ~/.config/oxide/credentials.toml")
    parser.add_argument("--insecure-skip-verify", action="store_true", help="accept any certificate")
    given = parser.parse_args()
    try:
        image_id = asyncio.run(
            look_up(given.name, given.project, profile=given.profile, insecure_skip_verify=given.insecure_skip_verify)
        )
    except DefinitionError as error:
        print(error, file=sys.stderr)
        return 2
    except BakeryError as error:
        print(error, file=sys.stderr)
        return 1
    print(image_id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
