//! `base.ami`: the AMI that instances start from.

use std::ops::Range;

use super::{forms, known_names};
use crate::base::check_user;
use crate::nearest::listed;
use crate::reader::Reader;
use crate::template::aws::AmiSource;
use crate::values::Values;

/// `span` is all of the table.
pub(crate) fn ami_source(reader: &mut Reader<'_>, values: &Values, span: &Range<usize>) -> AmiSource {
    if let Some(user) = values.text("user").cloned() {
        check_user(reader, &user);
    }
    known_names::OF_IMAGES.check(reader, values.map("filters"));
    let source = AmiSource {
        id: forms::AMI.read_one(reader, values, "id"),
        owner: forms::OWNER.read_one(reader, values, "owner"),
        name: values.string("name"),
        filters: values.string_map("filters"),
        user: values.string("user"),
    };
    let is_written = |key: &str| values.get(key).is_some();
    if is_written("id") {
        check_nothing_beside_the_id(reader, values);
    } else if !is_written("name") && !is_written("filters") {
        let help = "say which: `id = \"ami-…\"`, or `owner` and `name`, of which the newest is taken";
        reader.error_with_help(span, "`ami` names no AMI", help);
    } else if !is_written("owner") {
        let help = "anybody may publish a newer AMI of that name, and you would build on it: say whose you trust, such \
                    as `owner = \"136693071363\"` (Debian)";
        reader.error_with_help(span, "missing key `owner` in `ami`", help);
    }
    check_name_is_said_once(reader, values);
    source
}

fn check_nothing_beside_the_id(reader: &mut Reader<'_>, values: &Values) {
    let beside: Vec<&str> = ["owner", "name", "filters"].into_iter().filter(|key| values.get(key).is_some()).collect();
    if let Some(span) = values.key_span("id").filter(|_| !beside.is_empty()) {
        let message = format!("`id` stands beside {}", listed(&beside));
        reader.error_with_help(&span, message, "an id names one AMI: remove it, or the rest");
    }
}

fn check_name_is_said_once(reader: &mut Reader<'_>, values: &Values) {
    let in_filters = values.map("filters").iter().find(|(name, _)| name.text == "name");
    if let (Some((filter, _)), Some(_)) = (in_filters, values.get("name")) {
        let span = filter.span.clone();
        reader.error_with_help(&span, "both `name` and a filter for it are given", "remove the filter");
    }
}
