"""Validates CycloneDX 1.6 JSON files, reads each into the library's own model, and prints what is in it."""

import json
import sys
from collections import Counter

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def check(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        sys.exit(f"{path}: not CycloneDX 1.6: {error}")
    raw = json.loads(text)
    bom = Bom.from_json(data=raw)
    if len(bom.components) != len(raw["components"]):
        sys.exit(f"{path}: {len(raw['components'])} components are written and {len(bom.components)} were read")
    # References to components that are not there, and components that nothing leads to.
    bom.validate()
    types = Counter(component.purl.type if component.purl else "none" for component in bom.components)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(types.items()))
    print(f"{path}: {len(bom.components)} components ({counts}), {bom.urn()}")


for path in sys.argv[1:]:
    check(path)
