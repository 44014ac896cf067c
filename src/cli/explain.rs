//! `crihook explain`: which hooks would run for a pod, in which order, within which time, and why others would not.

mod manifest;
mod plan;
mod pods;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::fmt::Write as _;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Output, print};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Endpoint, Settings};
use crate::hooks::policy::{self, PolicySet};
use crate::inventory::Runtime as _;
use crate::lifecycle::Point;
use crate::runtime::Runtime;
use plan::Explanation;
use pods::Described;

/// A manifest may be as large as this; a list of a whole node's pods is far smaller.
const MAX_MANIFEST: u64 = 16 << 20;

/// What `explain` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Only this point, named as in policies
    #[arg(long)]
    point: Option<Point>,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Read settings from this file; flags and environment come first [default: /etc/crihook/config.yaml if it is there]
    #[arg(long, env = "CRIHOOK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Policies are read from here [default: /etc/crihook/hooks.d]
    #[arg(long, env = "CRIHOOK_HOOKS_DIR", value_name = "DIR")]
    hooks_dir: Option<PathBuf>,
    /// Where the runtime is asked for the container [default: /run/containerd/containerd.sock]
    #[arg(long, env = "CRIHOOK_RUNTIME_ENDPOINT", value_name = "ENDPOINT")]
    runtime_endpoint: Option<Endpoint>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The pods of this manifest, a pod or what makes pods, in YAML or JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    pod: Option<PathBuf>,
    /// A container of this node, by its id or how that begins
    #[arg(long, value_name = "ID")]
    container: Option<String>,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("crihook: {0}")]
    Config(#[from] ConfigError),
    /// All mistakes, as `check` prints them.
    #[error("{0}")]
    Policies(String),
    #[error("crihook: {}: cannot read the manifest: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("crihook: {}:{source}", .path.display())]
    Manifest { path: PathBuf, source: manifest::ManifestError },
    #[error("crihook: the runtime at {endpoint} has no container whose id is, or alone begins with, `{id}`")]
    NoContainer { endpoint: Endpoint, id: String },
    #[error("crihook: the runtime at {endpoint} cannot say what `{id}` is: {why}")]
    Runtime { endpoint: Endpoint, id: String, why: String },
    #[error("crihook: {0}")]
    System(#[from] std::io::Error),
}

impl Refused {
    /// 2 for what the user has written, 1 for the rest.
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Policies(_) | Self::Unreadable { .. } | Self::Manifest { .. } => 2,
            Self::NoContainer { .. } | Self::Runtime { .. } | Self::System(_) => 1,
        }
    }
}

/// Everything that is printed as JSON.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// As in `crihook_policy_info`.
    policy_hash: String,
    policies: usize,
    pods: Vec<Explanation>,
}

/// Explains and ends.
pub fn run(args: &Args) -> ExitCode {
    match explain(args).and_then(|page| Ok(print(&page)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            eprintln!("{refused}");
            refused.code().into()
        }
    }
}

fn explain(args: &Args) -> Result<String, Refused> {
    let config = configure(args)?;
    let set = policies(&config)?;
    let pods = match (&args.whom.pod, &args.whom.container) {
        (Some(file), _) => from_manifest(file)?,
        (None, id) => vec![from_runtime(&config.runtime_endpoint, id.as_deref().unwrap_or_default())?],
    };
    let pods = pods.iter().map(|described| plan::explain(&set, &config.hooks, described, args.point)).collect();
    let document = Document { policy_hash: set.hash.clone(), policies: set.policies.len(), pods };
    Ok(match args.output {
        Output::Text => page(&document, &config.hooks_dir),
        Output::Json => serde_json::to_string_pretty(&document).map_err(std::io::Error::from)? + "\n",
    })
}

fn configure(args: &Args) -> Result<Config, ConfigError> {
    let file = match &args.config {
        Some(file) => Settings::read(file)?,
        None if Path::new(DEFAULT_FILE).exists() => Settings::read(Path::new(DEFAULT_FILE))?,
        None => Settings::default(),
    };
    let (runtime_endpoint, hooks_dir) = (args.runtime_endpoint.clone(), args.hooks_dir.clone());
    Settings { runtime_endpoint, hooks_dir, ..Settings::default() }.or(file).try_into()
}

/// Those that are in the directory, be they in force or not.
fn policies(config: &Config) -> Result<PolicySet, Refused> {
    let loaded = policy::load(&config.hooks_dir, &config.hooks.defaults).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Refused::Policies(told.join("\n"))
    })?;
    Ok(loaded.set)
}

fn from_manifest(file: &Path) -> Result<Vec<Described>, Refused> {
    let read = |mut from: Box<dyn Read>| {
        let mut text = String::new();
        let read = from.by_ref().take(MAX_MANIFEST + 1).read_to_string(&mut text);
        match read {
            Ok(length) if length as u64 > MAX_MANIFEST => {
                let why = format!("it is larger than {} MiB", MAX_MANIFEST >> 20);
                Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why))
            }
            Ok(_) => Ok(text),
            Err(error) => Err(error),
        }
    };
    let stream = file == Path::new("-");
    let text =
        if stream { read(Box::new(stdin())) } else { std::fs::File::open(file).and_then(|file| read(Box::new(file))) };
    let path = if stream { PathBuf::from("standard input") } else { file.to_owned() };
    let text = text.map_err(|source| Refused::Unreadable { path: path.clone(), source })?;
    manifest::read(&text).map_err(|source| Refused::Manifest { path, source })
}

fn from_runtime(endpoint: &Endpoint, id: &str) -> Result<Described, Refused> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let runtime = Runtime::new(endpoint.path());
        let silent = |why| Refused::Runtime { endpoint: endpoint.clone(), id: id.to_owned(), why };
        let none = || Refused::NoContainer { endpoint: endpoint.clone(), id: id.to_owned() };
        // An empty id would be no filter at all.
        let member = if id.is_empty() { None } else { runtime.container(id).await.map_err(silent)? };
        let member = member.ok_or_else(none)?;
        let pod = runtime.sandbox(&member.sandbox_id).await.map_err(silent)?.ok_or_else(none)?;
        Ok(Described::of_running(pod, std::sync::Arc::unwrap_or_clone(member.container)))
    })
}

fn page(document: &Document, hooks_dir: &Path) -> String {
    let mut page = String::new();
    if document.policies == 0 {
        let _ = writeln!(page, "there are no policies in {}\n", hooks_dir.display());
    }
    let pods: Vec<String> = document.pods.iter().map(text::render).collect();
    page + pods.join("\n").as_str()
}
