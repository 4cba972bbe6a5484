//! AMIs of one account and region have names of their own.

use std::ops::Range;

use crate::builders::Builders;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::template::aws::{AmiTable, AwsAccount};
use crate::template::{BuilderTable, Image, Publish, PublisherTable};

/// An AMI that a builder or a publisher makes.
struct Made<'t> {
    by: &'t str,
    at: &'t Range<usize>,
    account: &'t AwsAccount,
    table: &'t AmiTable,
    name: String,
}

/// Warns of two that would get the same name: the later one fails, after all its work.
pub(crate) fn check(
    reader: &mut Reader<'_>,
    image: &Image,
    builders: &Builders,
    publishers: &[(Publish, Range<usize>)],
) {
    let of_builders = builders.known.iter().filter_map(|(builder, at)| match &builder.table {
        BuilderTable::AwsEbs(table) => Some(Made::new(&builder.name, at, &table.account, &table.ami, image)),
        BuilderTable::Qemu(_) => None,
    });
    let of_publishers = publishers.iter().map(|(publisher, at)| {
        let PublisherTable::AwsAmi(table) = &publisher.table;
        Made::new(&publisher.name, at, &table.account, &table.ami, image)
    });
    let all: Vec<Made<'_>> = of_builders.chain(of_publishers).collect();
    for (index, later) in all.iter().enumerate() {
        let earlier = all[..index].iter().find_map(|earlier| Some((earlier, earlier.meets(later)?)));
        if let Some((earlier, region)) = earlier {
            let message = format!("the AMIs of `{}` and `{}` are both called `{}`", earlier.by, later.by, later.name);
            let help = format!("in `{region}` AWS refuses the second: give one an `ami_name`");
            reader.report(Problem::warning(later.at.clone(), message).with_help(help));
        }
    }
}

impl<'t> Made<'t> {
    fn new(by: &'t str, at: &'t Range<usize>, account: &'t AwsAccount, table: &'t AmiTable, image: &Image) -> Self {
        Self { by, at, account, table, name: table.name_for(&image.name, &image.version) }
    }

    fn regions(&self) -> impl Iterator<Item = &str> {
        // A region that is missing is reported elsewhere.
        let all = std::iter::once(&self.account.region).chain(self.table.copies.keys()).map(String::as_str);
        all.filter(|region| !region.is_empty())
    }

    /// A region where both have the same name.
    fn meets(&self, other: &Self) -> Option<&str> {
        let is_same = self.name == other.name && self.account.profile == other.account.profile;
        self.regions().find(|region| is_same && other.regions().any(|theirs| theirs == *region))
    }
}
