"""An Oxide region in a box.

Three layers: `app` and `routes` (which request is what), `bodies` and `wire` (what goes over the wire), and the rest
(what exists and how it changes). The rules come from the API's OpenAPI document, version 2026060800.0.0, and from the
control plane's public source.
"""
