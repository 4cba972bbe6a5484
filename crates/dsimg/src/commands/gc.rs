//! `dsimg gc`: what builds that died left behind, on this host and on AWS.

use std::fmt::Write as _;

use jiff::Timestamp;

use dsimg_template::template::aws::AwsAccount;

use crate::arguments::{Gc, Progress};
use crate::failure::{Code, Failure};
use crate::ui::output::print;
use crate::wire::aws;
use crate::{environment, leftovers, ui};

/// # Errors
/// No region is named, AWS does not answer, or something is still there.
pub(crate) async fn run(arguments: &Gc) -> Result<(), Failure> {
    let accounts = if arguments.aws { accounts(arguments)? } else { Vec::new() };
    if !arguments.dry_run {
        let screen = ui::screen(false, Progress::Plain, &[]);
        leftovers::free(&environment::state_folder()?, screen.as_ref()).await;
    }
    let mut still_there = 0;
    for account in &accounts {
        still_there += clean(account, arguments).await?;
    }
    match still_there {
        0 => Ok(()),
        count => Err(Failure::new(Code::TryAgain, format!("{count} of them could not be removed"))
            .with_hint("run the same again in some minutes")),
    }
}

fn accounts(arguments: &Gc) -> Result<Vec<AwsAccount>, Failure> {
    let usual = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    let regions = if arguments.regions.is_empty() { usual().into_iter().collect() } else { arguments.regions.clone() };
    if regions.is_empty() {
        return Err(Failure::new(Code::Wrong, "`--aws` needs a region").with_hint("add `--region eu-west-1`"));
    }
    Ok(regions.into_iter().map(|region| AwsAccount { region, profile: arguments.profile.clone() }).collect())
}

/// One region; gives how many could not be removed.
async fn clean(account: &AwsAccount, arguments: &Gc) -> Result<usize, Failure> {
    let found = aws::leftovers(account).await?;
    if found.is_empty() {
        print(&format!("nothing of dsimg's is left in {}\n", account.region))?;
    }
    let mut failed = 0;
    for left in found {
        let words = describe(&left, account);
        if let Some(until) = left.until.filter(|until| !arguments.all && Timestamp::now() < *until) {
            print(&format!("stays: {words}: its build may need it until {until}; `--all` removes it\n"))?;
        } else if arguments.dry_run {
            print(&format!("would remove {words}\n"))?;
        } else {
            match aws::remove(account, &left).await {
                Ok(()) => print(&format!("removed {words}\n"))?,
                Err(error) => {
                    failed += 1;
                    print(&format!("cannot remove {words}: {error}\n"))?;
                }
            }
        }
    }
    Ok(failed)
}

fn describe(left: &aws::Left, account: &AwsAccount) -> String {
    let mut words = format!("{} {} in {}", left.kind, left.id, account.region);
    if let Some(build) = &left.build {
        let _ = write!(words, ", of build {build}");
    }
    words
}
