#!/usr/bin/env python3
"""Writes the OpenAPI document of a Kubernetes API server as JSON Schemas, one file for each kind, for kubeconform.

Usage: openapi-schemas.py SWAGGER.JSON DIRECTORY
The document is api/openapi-spec/swagger.json in the sources of Kubernetes, or /openapi/v2 of a running API server.
"""

import json
import pathlib
import sys

source, directory = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
directory.mkdir(parents=True, exist_ok=True)
definitions = json.loads(source.read_text())["definitions"]

# Swagger knows no type for "a number or a text" and calls both of these text.
definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
for definition in definitions.values():
    if "properties" in definition:
        definition.setdefault("additionalProperties", False)

(directory / "definitions.json").write_text(json.dumps({"definitions": definitions}))
for name, definition in definitions.items():
    for kind in definition.get("x-kubernetes-group-version-kind", []):
        # kubeconform's {{.ResourceKind}}{{.KindSuffix}}: deployment-apps-v1, service-v1.
        parts = [kind["kind"].lower(), kind["group"].split(".")[0], kind["version"]]
        schema = {"$ref": f"definitions.json#/definitions/{name}"}
        (directory / ("-".join(filter(None, parts)) + ".json")).write_text(json.dumps(schema))
