//! The JSON Schema of a template, for editors: made of the same keys as the reader.

use serde_json::{Map, Value as Json, json};

use crate::definition::{Catalog, Provisioner};
use crate::keys::{self, Key, Shape};

/// The JSON Schema (2020-12) of a template that may use the provisioners of `catalog`.
#[must_use]
pub fn json_schema(catalog: &Catalog) -> Json {
    let mut definitions = Map::new();
    let mut stages = Vec::new();
    for provisioner in catalog.iter() {
        let name = format!("provision-{}", provisioner.definition.name);
        stages.push(json!({ "$ref": format!("#/$defs/{name}") }));
        definitions.insert(name, stage_schema(provisioner));
    }
    let (builder, publish) = (keys::builder(), keys::publish());
    let mut define = |list: &str, kind: &str, common: &[Key], own: Vec<Key>| {
        let name = format!("{list}-{kind}");
        let reference = json!({ "$ref": format!("#/$defs/{name}") });
        definitions.insert(name, typed_schema(kind, common, own));
        reference
    };
    let builders =
        [define("builder", "qemu", &builder, keys::qemu()), define("builder", "aws-ebs", &builder, keys::aws::ebs())];
    let publishers = [define("publish", "aws-ami", &publish, keys::aws::publisher())];

    let mut schema = object(&keys::template());
    let properties = &mut schema["properties"];
    properties["variables"] =
        described(variables_schema(), "Values to be set with --var, --var-file or DSIMG_VAR_name");
    properties["matrix"] =
        described(matrix_schema(), "Several images from one template: for each variable the values it takes");
    properties["builder"] = described(
        json!({ "type": "array", "items": { "oneOf": builders } }),
        "A machine to build on; one of type qemu when there is none",
    );
    properties["publish"] =
        described(json!({ "type": "array", "items": { "oneOf": publishers } }), "Where the finished image goes");
    properties["provision"] = described(
        json!({ "type": "array", "items": { "oneOf": stages } }),
        "A stage of the build, carried out in the order of the file",
    );
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("dsimg template");
    schema["$defs"] = Json::Object(definitions);
    schema
}

fn stage_schema(provisioner: &Provisioner) -> Json {
    let definition = &provisioner.definition;
    let keys: Vec<Key> = keys::provision().into_iter().chain(Key::of_parameters(&definition.parameters)).collect();
    let mut schema = described(object(&keys), &definition.summary);
    schema["title"] = json!(definition.name);
    schema["properties"]["type"] = described(json!({ "const": definition.name }), "The provisioner");
    schema
}

/// A builder or a publisher of one type.
fn typed_schema(kind: &str, common: &[Key], own: Vec<Key>) -> Json {
    let keys: Vec<Key> = common.iter().cloned().chain(own).collect();
    let mut schema = object(&keys);
    schema["title"] = json!(kind);
    let summary = common.iter().find(|key| key.name == "type").map_or("", |key| &key.summary);
    schema["properties"]["type"] = described(json!({ "const": kind }), summary);
    schema
}

/// Every combination of the values is an image.
fn matrix_schema() -> Json {
    let value = json!({ "anyOf": plain_values() });
    let exclude = json!({
        "type": "array",
        "items": { "type": "object", "additionalProperties": value, "minProperties": 1 },
    });
    json!({
        "type": "object",
        "properties": { "exclude": described(exclude, "Combinations that are left out") },
        "additionalProperties": { "type": "array", "items": value, "minItems": 1, "uniqueItems": true },
        "minProperties": 1,
    })
}

/// What a variable may be.
fn plain_values() -> Json {
    json!([
        { "type": ["string", "integer", "boolean"] },
        { "type": "array", "items": { "type": "string" } },
    ])
}

fn variables_schema() -> Json {
    let plain = plain_values();
    let mut table = object(&keys::variable());
    table["properties"]["default"] = described(json!({ "anyOf": plain }), "Its value when none is given");
    let mut forms = plain.as_array().cloned().unwrap_or_default();
    forms.push(table);
    json!({
        "type": "object",
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "additionalProperties": { "anyOf": forms },
    })
}

/// A table with these keys and no others.
fn object(keys: &[Key]) -> Json {
    let known = keys.iter().filter(|key| !matches!(key.shape, Shape::NotYet));
    let properties: Map<String, Json> = known.map(|key| (key.name.clone(), property(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name.as_str()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn property(key: &Key) -> Json {
    // A string with `{{ … }}` stands for a value of any kind.
    let rendered = json!({ "type": "string", "pattern": r"\{\{" });
    let or_rendered = |schema: Json| json!({ "anyOf": [schema, rendered] });
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let schema = match &key.shape {
        Shape::Text | Shape::Url | Shape::Path => json!({ "type": "string" }),
        Shape::Duration => or_rendered(json!({ "type": "string", "pattern": "^([0-9]+[smhdw])+$" })),
        Shape::Size => or_rendered(json!({ "type": "string", "pattern": "^[0-9]+ *([KMGT]iB|[kMGT]?B)$" })),
        Shape::Choice(choices) => or_rendered(json!({ "enum": choices })),
        Shape::Choices(choices) => or_rendered(json!({
            "type": "array",
            "items": or_rendered(json!({ "enum": choices })),
            "minItems": 1,
            "uniqueItems": true,
        })),
        Shape::Texts | Shape::Paths => or_rendered(texts),
        Shape::Integer { least, most } => {
            let mut integer = json!({ "type": "integer" });
            if *least != i64::MIN {
                integer["minimum"] = json!(least);
                integer["maximum"] = json!(most);
            }
            or_rendered(integer)
        }
        Shape::Integers => json!({ "type": "array", "items": or_rendered(json!({ "type": "integer" })) }),
        Shape::Boolean => or_rendered(json!({ "type": "boolean" })),
        Shape::Condition => json!({ "type": ["boolean", "string"] }),
        Shape::Map => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Table(keys) => object(keys),
        Shape::Tables(keys) => json!({ "type": "array", "items": object(keys) }),
        Shape::Own | Shape::NotYet => json!({}),
    };
    let mut schema = described(schema, &key.summary);
    if let Some(default) = &key.default {
        schema["default"] = default.clone();
    }
    schema
}

fn described(mut schema: Json, summary: &str) -> Json {
    if !summary.is_empty() {
        schema["description"] = json!(summary);
    }
    schema
}
