//! `make_plan`: the same values in, the same plan out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use dsimg_template::Template;
use dsimg_template::definition::{Catalog, Provisioner, StepAction, StepDefinition};
use dsimg_template::render::render;
use dsimg_template::template::{Builder, BuilderTable, ParameterValue, ProvisionEntry};
use dsimg_template::units::Timeout;

use crate::digest::Digest;
use crate::inputs::Inputs;
use crate::key_inputs::{DiskKey, stage_inputs};
use crate::parameters::{parameters_script, quote};
use crate::plan::{FileKind, Plan, PlannedBase, PlannedFile, SecretDigests, Stage, Step};

/// The folder in the guest that holds everything of the build: a tmpfs, gone with the machine.
pub const GUEST_FOLDER: &str = "/run/dsimg";

/// The login of the build where the template names none; made for the build, removed by hygiene.
pub const BUILD_USER: &str = "dsimg";

/// The provisioner of the last stage, which every plan has.
pub const HYGIENE: &str = "hygiene";

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("stage `{stage}`: cannot render `{}`: {why}", file.display())]
    Render { stage: String, file: PathBuf, why: String },
    #[error("there is no provisioner `{name}` (stage `{stage}`)")]
    NoProvisioner { stage: String, name: String },
    /// A checked template has one.
    #[error("`[base]` has nothing that builder `{builder}` can boot")]
    NoBase { builder: String },
}

/// For each combination of a template one plan for each builder that `only` names, or for each of the template that
/// is not on request.
///
/// # Errors
/// A file that can't be rendered, or a provisioner that the catalog lacks.
pub fn make_plans(
    templates: &[Template],
    catalog: &Catalog,
    inputs: &Inputs,
    only: &[String],
) -> Result<Vec<Plan>, PlanError> {
    let is_chosen = |builder: &&Builder| match only {
        [] => !builder.on_request,
        _ => only.contains(&builder.name),
    };
    let pairs = templates
        .iter()
        .flat_map(|template| template.builders.iter().filter(is_chosen).map(move |builder| (template, builder)));
    pairs.map(|(template, builder)| make_plan(template, builder, catalog, inputs)).collect()
}

fn make_plan(template: &Template, builder: &Builder, catalog: &Catalog, inputs: &Inputs) -> Result<Plan, PlanError> {
    let base = plan_base(template, builder)?;
    let entries = template.provision.iter().filter(|entry| entry.applies_to(&builder.name)).cloned();
    let entries = entries.chain([hygiene_entry(template, builder)]);

    let user_data = match &builder.table {
        BuilderTable::AwsEbs(table) => table.instance.user_data.as_ref().and_then(|path| inputs.user_data.get(path)),
        BuilderTable::Qemu(_) => None,
    };
    let disk = DiskKey::new(&base, &builder.table, user_data, &template.network);
    let (disk_key, disk_inputs) = (Digest::of_value(&disk), disk.inputs());
    let mut parent = disk_key.clone();
    let mut stages = Vec::new();
    for (index, entry) in entries.enumerate() {
        let stage = plan_stage(template, &entry, index + 1, catalog, inputs, &parent)?;
        parent = stage.key.clone();
        stages.push(stage);
    }
    Ok(Plan {
        format: 1,
        image: template.image.clone(),
        cell: template.cell.clone(),
        builder: builder.name.clone(),
        machine: builder.table.clone(),
        user_data: user_data.cloned(),
        base,
        disk_key,
        disk_inputs,
        network: template.network.clone(),
        stages,
        publish: template.publish.iter().filter(|publish| publish.applies_to(builder)).cloned().collect(),
    })
}

/// The one that the builder's kind boots.
fn plan_base(template: &Template, builder: &Builder) -> Result<PlannedBase, PlanError> {
    let base = &template.base;
    match (&builder.table, &base.bootstrap, &base.image, &base.ami) {
        (BuilderTable::AwsEbs(_), _, _, Some(ami)) => Ok(PlannedBase::Ami(ami.clone())),
        (BuilderTable::Qemu(_), _, Some(image), _) => Ok(PlannedBase::Image(image.clone())),
        (BuilderTable::Qemu(_), Some(bootstrap), None, _) => Ok(PlannedBase::Bootstrap(bootstrap.clone())),
        _ => Err(PlanError::NoBase { builder: builder.name.clone() }),
    }
}

/// The login that the template names, or the one that is made for the build. On a base of dsimg's own `root` is let in
/// by its key; on others its login may be closed, so that a user is made who may become it.
#[must_use]
pub fn build_user(builder: &BuilderTable, base_is_own: bool) -> &str {
    let named = match builder {
        BuilderTable::Qemu(qemu) => qemu.ssh_user.as_deref(),
        BuilderTable::AwsEbs(aws) => aws.reach.ssh_user.as_deref(),
    };
    named.unwrap_or(if base_is_own { "root" } else { BUILD_USER })
}

/// The stage that takes the build's own traces out of the image.
fn hygiene_entry(template: &Template, builder: &Builder) -> ProvisionEntry {
    let base_is_own = matches!(builder.table, BuilderTable::Qemu(_)) && template.base.bootstrap.is_some();
    let user = build_user(&builder.table, base_is_own).to_owned();
    ProvisionEntry {
        label: HYGIENE.to_owned(),
        provisioner: HYGIENE.to_owned(),
        parameters: BTreeMap::from([
            ("build_user".to_owned(), ParameterValue::Text(user)),
            ("keep_network".to_owned(), ParameterValue::Boolean(template.network.keep)),
        ]),
        only: Default::default(),
        except: Default::default(),
        timeout: Timeout::from_minutes(30),
        retries: 0,
        cache: true,
        refresh: None,
    }
}

fn plan_stage(
    template: &Template,
    entry: &ProvisionEntry,
    number: usize,
    catalog: &Catalog,
    inputs: &Inputs,
    parent: &Digest,
) -> Result<Stage, PlanError> {
    let no_provisioner = || PlanError::NoProvisioner { stage: entry.label.clone(), name: entry.provisioner.clone() };
    let provisioner = catalog.get(&entry.provisioner).ok_or_else(no_provisioner)?;
    let planner =
        StagePlanner { template, entry, provisioner, inputs, folder: format!("{GUEST_FOLDER}/stage-{number}") };

    let mut steps = planner.own_files(catalog);
    for step in provisioner.definition.steps.iter().filter(|step| planner.is_done(step)) {
        steps.push(planner.plan_step(step)?);
    }
    let definition = &provisioner.definition;
    let key = stage_key(parent, &definition.name, definition.version, &steps, &inputs.secrets);
    Ok(Stage {
        label: entry.label.clone(),
        provisioner: definition.name.clone(),
        provisioner_version: definition.version,
        key,
        open_key: None,
        inputs: stage_inputs(entry, definition, &steps, &inputs.secrets),
        // What it brings out of the machine lies beside one image only.
        cache: entry.cache && !fetches(&steps),
        refresh: entry.refresh,
        tools: definition.tools.clone(),
        steps,
    })
}

/// Whether one of them brings a file out of the machine.
#[must_use]
pub fn fetches(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Fetch { .. }))
}

/// The key of a stage: its parent's, the provisioner, every field of every step, and the secrets it names.
fn stage_key(parent: &Digest, name: &str, version: u32, steps: &[Step], secrets: &SecretDigests) -> Digest {
    #[derive(Serialize)]
    struct StageKey<'a> {
        parent: &'a Digest,
        provisioner: &'a str,
        version: u32,
        steps: Vec<Step>,
        secrets: SecretDigests,
    }
    let secrets = named_secrets(steps, secrets);
    let steps = steps.iter().cloned().map(without_host_paths).collect();
    Digest::of_value(&StageKey { parent, provisioner: name, version, steps, secrets })
}

/// Those whose placeholders are in the steps.
pub(crate) fn named_secrets(steps: &[Step], secrets: &SecretDigests) -> SecretDigests {
    let text = serde_json::to_string(steps).expect("steps are plain data");
    let used = secrets.iter().filter(|(name, _)| text.contains(&dsimg_template::secret::placeholder(name)));
    used.map(|(name, digest)| (name.clone(), digest.clone())).collect()
}

pub(crate) fn without_host_paths(step: Step) -> Step {
    match step {
        Step::Upload { files } => {
            Step::Upload { files: files.into_iter().map(|file| PlannedFile { source: None, ..file }).collect() }
        }
        step => step,
    }
}

/// What the steps of one stage are made from.
struct StagePlanner<'a> {
    template: &'a Template,
    entry: &'a ProvisionEntry,
    provisioner: &'a Provisioner,
    inputs: &'a Inputs,
    /// The stage's folder in the guest.
    folder: String,
}

impl StagePlanner<'_> {
    /// The provisioner's scripts, the functions common to all, and the parameters.
    fn own_files(&self, catalog: &Catalog) -> Vec<Step> {
        let write = |place: String, content: &[u8], mode| Step::Write {
            to: format!("{}/{place}", self.folder),
            mode,
            content: String::from_utf8_lossy(content).into_owned(),
        };
        let own = self.provisioner.files.iter();
        let mut steps: Vec<_> = own.map(|(path, content)| write(path.clone(), content, 0o755)).collect();
        let common = catalog.common().iter();
        steps.extend(common.map(|(path, content)| write(format!("common/{path}"), content, 0o755)));
        let guest_path = |parameter: &str, path: &Path| self.guest_path(parameter, path);
        let mut parameters = parameters_script(&self.provisioner.definition, &self.entry.parameters, &guest_path);
        parameters.push_str(&self.uploaded_files());
        steps.push(write("params.sh".to_owned(), parameters.as_bytes(), 0o600));
        steps
    }

    fn is_done(&self, step: &StepDefinition) -> bool {
        let is_set = |name: &String| self.entry.parameters.get(name).is_some_and(ParameterValue::is_set);
        let named = match &step.action {
            StepAction::Upload { parameter, .. } | StepAction::Fetch { parameter, .. } => is_set(parameter),
            StepAction::Run { .. } | StepAction::Reboot => true,
        };
        named && step.when.as_ref().is_none_or(is_set)
    }

    fn plan_step(&self, step: &StepDefinition) -> Result<Step, PlanError> {
        match &step.action {
            StepAction::Upload { parameter, to, render } => {
                self.plan_upload(parameter, to.as_deref(), render.as_deref())
            }
            StepAction::Run { script, reboots } => Ok(Step::Run {
                script: format!("{}/{script}", self.folder),
                timeout: self.entry.timeout,
                retries: self.entry.retries,
                may_reboot: reboots.as_ref().is_some_and(|name| self.flag(name)),
            }),
            StepAction::Fetch { parameter, to } => {
                let from = self.text(parameter);
                let default = || Path::new(&from).file_name().map(PathBuf::from).unwrap_or_default();
                let to = Some(self.text(to)).filter(|to| !to.is_empty()).map_or_else(default, PathBuf::from);
                Ok(Step::Fetch { from, to })
            }
            StepAction::Reboot => Ok(Step::Reboot),
        }
    }

    /// All files of a parameter in one upload, each under its place in the guest.
    fn plan_upload(&self, parameter: &str, to: Option<&str>, render: Option<&str>) -> Result<Step, PlanError> {
        let rendered = render.is_some_and(|name| self.flag(name));
        let mut planned = Vec::new();
        for (path, file) in self.placed_files(parameter, to) {
            let file = if rendered { self.render_file(file)? } else { file.clone() };
            planned.push(PlannedFile { path, ..file });
        }
        Ok(Step::Upload { files: planned })
    }

    /// Each file of a parameter with its place in the guest.
    fn placed_files(&self, parameter: &str, to: Option<&str>) -> Vec<(String, &PlannedFile)> {
        let paths = self.entry.parameters.get(parameter).map(crate::inputs::paths_in).unwrap_or_default();
        let mut placed = Vec::new();
        for path in paths {
            let files = self.inputs.files.get(path).map(Vec::as_slice).unwrap_or_default();
            let place = match to {
                Some(to) => destination(&self.text(to), path, files),
                None => self.guest_path(parameter, path),
            };
            let inner = |file: &PlannedFile| {
                if file.path.is_empty() { place.clone() } else { format!("{place}/{}", file.path) }
            };
            placed.extend(files.iter().map(|file| (inner(file), file)));
        }
        placed
    }

    /// For each upload to a place of the template's choice `NAME_files`: what it puts there, for its scripts.
    fn uploaded_files(&self) -> String {
        let mut script = String::new();
        for step in &self.provisioner.definition.steps {
            let StepAction::Upload { parameter, to: Some(to), .. } = &step.action else { continue };
            let files = self.placed_files(parameter, Some(to));
            let files: Vec<_> = files.iter().map(|(path, _)| quote(path)).collect();
            script.push_str(&format!("{parameter}_files=({})\n", files.join(" ")));
        }
        script
    }

    fn render_file(&self, file: &PlannedFile) -> Result<PlannedFile, PlanError> {
        let Some((source, text)) = file.source.as_ref().and_then(|source| self.inputs.texts.get_key_value(source))
        else {
            return Ok(file.clone());
        };
        let fail = |why| PlanError::Render { stage: self.entry.label.clone(), file: source.clone(), why };
        let content = render(text, &self.template.context).map_err(fail)?;
        let executable = matches!(file.kind, FileKind::File { executable: true, .. });
        Ok(PlannedFile { kind: FileKind::Rendered { content, executable }, ..file.clone() })
    }

    /// Where a path parameter's file or folder lies in the guest after its upload.
    fn guest_path(&self, parameter: &str, path: &Path) -> String {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("content");
        let to = self.provisioner.definition.steps.iter().find_map(|step| match &step.action {
            StepAction::Upload { parameter: uploaded, to: Some(to), .. } if uploaded == parameter => Some(to),
            _ => None,
        });
        if let Some(to) = to {
            let files = self.inputs.files.get(path).map(Vec::as_slice).unwrap_or_default();
            return destination(&self.text(to), path, files);
        }
        // Two paths of one parameter may end in the same name.
        let all = self.entry.parameters.get(parameter).map(crate::inputs::paths_in).unwrap_or_default();
        match all.iter().position(|other| *other == path).filter(|_| all.len() > 1) {
            Some(index) => format!("{}/uploads/{parameter}/{index}/{name}", self.folder),
            None => format!("{}/uploads/{parameter}/{name}", self.folder),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.entry.parameters.get(name) {
            Some(ParameterValue::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.entry.parameters.get(name), Some(ParameterValue::Boolean(true)))
    }
}

/// A file goes to the destination, or into it where that ends in `/`; a folder's content goes into it.
fn destination(to: &str, path: &Path, files: &[PlannedFile]) -> String {
    let is_file = files.first().is_some_and(|file| file.path.is_empty());
    match to.strip_suffix('/') {
        Some(folder) if is_file => {
            format!("{folder}/{}", path.file_name().and_then(|name| name.to_str()).unwrap_or("content"))
        }
        Some(folder) => folder.to_owned(),
        None => to.to_owned(),
    }
}
