//! The SSM parameter that names the newest AMI.

use aws_sdk_ssm::types::ParameterType;

use dsimg_machine::{MachineError, RunContext};

use crate::account::Account;
use crate::failure::{code, explain};
use crate::pace::until_cancelled;
use crate::patience::ask;

/// SSM looks whether there is such an AMI, and so do launch templates that resolve it.
const KIND: &str = "aws:ec2:image";

/// Written only where it says something else.
pub(super) async fn point(name: &str, id: &str, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let call = account.ssm.get_parameter().name(name).send();
    let now = match until_cancelled(&run.cancel, call).await? {
        Ok(answer) => answer.parameter().and_then(|parameter| parameter.value()).map(ToOwned::to_owned),
        Err(error) if code(&error) == Some("ParameterNotFound") => None,
        Err(error) => return Err(explain(&format!("read the parameter {name}"), account, error)),
    };
    if now.as_deref() == Some(id) {
        return Ok(());
    }
    let call = account.ssm.put_parameter().name(name).value(id).r#type(ParameterType::String).data_type(KIND);
    let call = call.overwrite(true).send();
    ask(&format!("point the parameter {name} to {id}"), account, run, call).await?;
    let before = now.map(|before| format!(", and no longer to {before}")).unwrap_or_default();
    run.info(format!("{name} in {} points to {id}{before}", account.region));
    Ok(())
}
