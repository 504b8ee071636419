"""Options of Packer's `ansible` provisioner that have nothing to do here."""

from __future__ import annotations

from typing import Any

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.provisioners.common import ProvisionerOptions
from tasks.run import Logger

_OWN_CONNECTION = "Ansible uses the build's own connection, and there is no second one to set up"


def _without_effect(why: str = _OWN_CONNECTION) -> Any:
    return Field(default=None, description=why)


class PackersOwn(ProvisionerOptions):
    """Options of Packer's that have nothing to do here, and why. They are taken, with a warning."""

    ansible_proxy_key_type: Any = _without_effect()
    ansible_ssh_extra_args: Any = _without_effect()
    ansible_winrm_use_http: Any = _without_effect()
    keep_inventory_file: Any = _without_effect("the inventory names a connection that ends with the provisioner")
    local_port: Any = _without_effect()
    sftp_command: Any = _without_effect()
    skip_version_check: Any = _without_effect("only that the program is there is checked")
    ssh_authorized_key_file: Any = _without_effect()
    ssh_host_key_file: Any = _without_effect()
    use_proxy: Any = _without_effect()
    use_sftp: Any = _without_effect()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core, handler)
        # Allowed, and not in the form.
        for name in _PACKERS_OWN:
            schema["properties"].pop(name, None)
        schema["patternProperties"] = {f"^({'|'.join(_PACKERS_OWN)})$": {}}
        return schema

    def warn(self, logger: Logger) -> None:
        """Say of each that is given why it does nothing."""
        for name in _PACKERS_OWN:
            if name in self.model_fields_set:
                logger.warning("%s does nothing here: %s", name, type(self).model_fields[name].description)


_PACKERS_OWN = tuple(PackersOwn.__annotations__)
