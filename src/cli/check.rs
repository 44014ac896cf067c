//! `crihook check`: is what would be read in order? For people before they copy a file to a node, and for CI.
//!
//! Mistakes and warnings go to standard error, the verdict to standard output; with `-o json`, all is one document on standard output.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Output, counted, print};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Settings};
use crate::hooks::Defaults;
use crate::hooks::policy::{self, Diagnostic, Loaded};

/// What `check` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and directories of policies [default: the hooks directory, and the config file itself]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Check this config file, too [default: /etc/crihook/config.yaml if it is there and no PATH is given]
    #[arg(long, env = "CRIHOOK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check this directory [default: the config's hooksDir]
    #[arg(long, env = "CRIHOOK_HOOKS_DIR", value_name = "DIR")]
    hooks_dir: Option<PathBuf>,
    /// Print the JSON Schema of policies, for editors, and check nothing
    #[arg(long)]
    schema: bool,
    /// How the result is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// All that was found.
struct Findings {
    loaded: Loaded,
    mistakes: Vec<Diagnostic>,
}

/// Checks, and says what is wrong. The exit code is 0 if nothing is, else 2.
pub fn run(args: &Args) -> ExitCode {
    if args.schema {
        return ended(print(&format!("{:#}\n", policy::schema())), ExitCode::SUCCESS);
    }
    let findings = check(args);
    let told = match args.output {
        Output::Text => findings.tell(),
        Output::Json => print(&format!("{:#}\n", findings.to_json())),
    };
    ended(told, if findings.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn ended(printed: io::Result<()>, code: ExitCode) -> ExitCode {
    printed.map_or_else(
        |error| {
            eprintln!("crihook: cannot write to standard output: {error}");
            ExitCode::FAILURE
        },
        |()| code,
    )
}

fn check(args: &Args) -> Findings {
    let mut mistakes = Vec::new();
    let usual = Path::new(DEFAULT_FILE);
    let file = match &args.config {
        Some(file) => Some(file.as_path()),
        None => (args.paths.is_empty() && usual.exists()).then_some(usual),
    };
    let config = file.and_then(|file| read_config(file).map_err(|mistake| mistakes.push(mistake)).ok());
    let config = config.or_else(|| Config::try_from(Settings::default()).ok());
    let defaults = config.as_ref().map_or_else(Defaults::default, |config| config.hooks.defaults);
    let loaded = if args.paths.is_empty() {
        let directory = args.hooks_dir.clone().or_else(|| config.map(|config| config.hooks_dir));
        policy::load(&directory.unwrap_or_default(), &defaults)
    } else {
        policy::load_paths(&args.paths, &defaults)
    };
    let loaded = loaded.unwrap_or_else(|found| {
        mistakes.extend(found);
        Loaded::default()
    });
    Findings { loaded, mistakes }
}

fn read_config(file: &Path) -> Result<Config, Diagnostic> {
    let config = Settings::read(file).and_then(Config::try_from);
    config.map_err(|error| match error {
        ConfigError::Invalid { path, line, column, message } => {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            Diagnostic::of_text(path, &text, line, column, &message)
        }
        ConfigError::Unreadable { path, source } => Diagnostic::of_file(path, format!("cannot be read: {source}")),
        error @ ConfigError::SameSocket(..) => Diagnostic::of_file(file, error.to_string()),
    })
}

impl Findings {
    fn tell(&self) -> io::Result<()> {
        for found in self.loaded.warnings.iter().chain(&self.mistakes) {
            eprintln!("{found}\n");
        }
        let policies = self.loaded.set.policies.len();
        match self.mistakes.len() {
            0 => print(&format!(
                "in order: {}, {}\n",
                counted(policies, "policy", "policies"),
                counted(self.loaded.set.hooks(), "hook", "hooks")
            )),
            wrong => {
                eprintln!("{}", counted(wrong, "mistake", "mistakes"));
                Ok(())
            }
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "valid": self.mistakes.is_empty(),
            "policies": self.loaded.set.policies.len(),
            "hooks": self.loaded.set.hooks(),
            "hash": self.loaded.set.hash,
            "mistakes": self.mistakes,
            "warnings": self.loaded.warnings,
        })
    }
}
