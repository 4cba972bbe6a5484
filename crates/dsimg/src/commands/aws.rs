//! `dsimg aws policy`: the rights that a template needs, and no more.

use dsimg_template::template::{BuilderTable, PublisherTable};

use crate::arguments::AwsPolicy;
use crate::failure::{Code, Failure};
use crate::reading::read_sound;
use crate::ui::output::{print, say};
use crate::wire::aws;

/// # Errors
/// The template is wrong, or nothing in it is for AWS.
pub(crate) fn policy(arguments: &AwsPolicy) -> Result<(), Failure> {
    let (templates, _) = read_sound(&arguments.template, &arguments.variables, "policy", &say)?;
    let builders =
        templates.iter().flat_map(|template| &template.builders).filter_map(|builder| match &builder.table {
            BuilderTable::AwsEbs(table) => Some(table.as_ref()),
            BuilderTable::Qemu(_) => None,
        });
    let publishers = templates.iter().flat_map(|template| &template.publish);
    let publishers = publishers.map(|publish| match &publish.table {
        PublisherTable::AwsAmi(table) => table,
    });
    let (builders, publishers): (Vec<_>, Vec<_>) = (builders.collect(), publishers.collect());
    if builders.is_empty() && publishers.is_empty() {
        let what = format!("nothing in `{}` is for AWS", arguments.template.display());
        return Err(Failure::new(Code::Wrong, what)
            .with_hint("it has neither a builder of type `aws-ebs` nor a publisher of type `aws-ami`"));
    }
    print(&format!("{:#}\n", aws::policy(&builders, &publishers)?))
}
