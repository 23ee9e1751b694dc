#!/usr/bin/env python3
"""Writes a CRD of another project as small as an API server needs it: the one version, without descriptions and status.

Usage: make.py CRD.YAML VERSION SOURCE >OUTPUT.YAML
SOURCE says where the file is from; all of them are under the Apache License 2.0. It needs PyYAML.
"""

import sys

import yaml


def without_descriptions(value, names=False):
    if isinstance(value, dict):
        return {
            key: without_descriptions(field, key == "properties" and not names)
            for key, field in value.items()
            if names or key != "description" or not isinstance(field, str)
        }
    if isinstance(value, list):
        return [without_descriptions(item) for item in value]
    return value


path, wanted, source = sys.argv[1:]
with open(path) as file:
    definition = next(document for document in yaml.safe_load_all(file) if document)
version = next(version for version in definition["spec"]["versions"] if version["name"] == wanted)
version["schema"]["openAPIV3Schema"]["properties"].pop("status", None)
version.update(served=True, storage=True)
definition["spec"]["versions"] = [version]
definition["spec"].pop("conversion", None)
definition.pop("status", None)
print(f"# {source}; Apache License 2.0. Without descriptions and status, by make.py.")
print(yaml.safe_dump(without_descriptions(definition), sort_keys=False, width=1000), end="")
