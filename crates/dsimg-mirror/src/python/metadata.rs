//! The METADATA that lies in a wheel.

use std::fs::File;
use std::io::Read;

use crate::refusal::Refusal;

/// More than any that was ever seen; a wheel that claims more is not unpacked.
const MOST: u64 = 64 << 20;

/// # Errors
/// It is no wheel. `shown` names it.
pub(crate) fn of_wheel(wheel: &File, shown: &str) -> Result<Vec<u8>, Refusal> {
    let broken = |why: String| Refusal::new(502, format!("{shown} is no wheel: {why}"));
    let wheel = wheel.try_clone().map_err(|error| broken(error.to_string()))?;
    let mut archive =
        zip::ZipArchive::new(std::io::BufReader::new(wheel)).map_err(|error| broken(error.to_string()))?;
    let is_metadata = |name: &str| {
        name.strip_suffix("/METADATA").is_some_and(|folder| folder.ends_with(".dist-info") && !folder.contains('/'))
    };
    let place = archive.file_names().position(|name| name.is_ok_and(|name| is_metadata(&name)));
    let place = place.ok_or_else(|| broken("it has no METADATA".to_owned()))?;
    let member = archive.by_index(place).map_err(|error| broken(error.to_string()))?;
    let mut bytes = Vec::new();
    member.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| broken(error.to_string()))?;
    if bytes.len() as u64 > MOST {
        return Err(broken(format!("its METADATA has more than {MOST} bytes")));
    }
    Ok(bytes)
}
