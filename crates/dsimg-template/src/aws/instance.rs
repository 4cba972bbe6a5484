//! What is started: type, price, rights, volumes and time of an instance.

use super::{check_one_of, forms, known_names, volumes};
use crate::builders::duration;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::template::aws::{InstanceTable, Spot};
use crate::units::Timeout;
use crate::values::Values;

pub(super) fn read(reader: &mut Reader<'_>, values: &Values) -> InstanceTable {
    let user_data = values.text("user_data").cloned();
    let user_data = user_data.filter(|path| reader.check_file(path)).map(|path| path.text.into());
    let table = InstanceTable {
        types: types(reader, values),
        spot: spot(reader, values),
        profile: forms::INSTANCE_PROFILE.read_one(reader, values, "instance_profile"),
        user_data,
        root: volumes::root(reader, values),
        volumes: volumes::others(reader, values),
        time_limit: duration(reader, values, "time_limit").unwrap_or(Timeout::from_minutes(6 * 60)),
        boot_timeout: duration(reader, values, "boot_timeout").unwrap_or(Timeout::from_minutes(10)),
    };
    check_times(reader, values, &table);
    table
}

fn types(reader: &mut Reader<'_>, values: &Values) -> Vec<String> {
    check_one_of(reader, values, ["instance_type", "instance_types"], "put all types into `instance_types`");
    for piece in values.text("instance_type").into_iter().chain(values.texts("instance_types")) {
        if forms::INSTANCE_TYPE.check(reader, piece) {
            known_names::check_processor(reader, piece);
        }
    }
    if let Some(found) = values.get("instance_types").filter(|_| values.texts("instance_types").is_empty()) {
        let span = found.span.clone();
        reader.error_with_help(&span, "`instance_types` names no type", "name one, or remove the line");
    }
    let written = values.string("instance_type").into_iter().chain(values.strings("instance_types"));
    let mut types: Vec<String> = written.collect();
    if types.is_empty() {
        types.push("t3.large".to_owned());
    }
    types
}

fn spot(reader: &mut Reader<'_>, values: &Values) -> Option<Spot> {
    let max_price = forms::PRICE.read_one(reader, values, "spot_max_price");
    if !values.boolean("spot").unwrap_or(false) {
        for key in ["spot_max_price", "on_demand_fallback"] {
            if let Some(span) = values.key_span(key) {
                let message = format!("`{key}` has no effect without `spot = true`");
                reader.report(Problem::warning(span, message).with_help("remove it, or build on spot capacity"));
            }
        }
        return None;
    }
    Some(Spot { max_price, on_demand_fallback: values.boolean("on_demand_fallback").unwrap_or(true) })
}

fn check_times(reader: &mut Reader<'_>, values: &Values, table: &InstanceTable) {
    let written = values.get("time_limit").or_else(|| values.get("boot_timeout"));
    if let Some(found) = written.filter(|_| table.time_limit <= table.boot_timeout) {
        let (limit, boot) = (table.time_limit, table.boot_timeout);
        let message = format!("the instance ends itself after {limit}, and its boot alone may take {boot}");
        reader.error_with_help(&found.span.clone(), message, "`time_limit` is for the whole build");
    }
}
