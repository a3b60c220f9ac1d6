mod devices;
mod machine;
mod places;

use std::io::{self, IsTerminal, Write};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use timburn_core::{Result, open_device};
use timburn_infer::Predictor;
use timburn_train::run::Environment;

use crate::output;

/// Check this installation: devices, processor, memory, caches, data, environment.
///
/// Each line is ok, warn or fail; below one that is not ok stands what to do. Devices are opened in processes of their own: a driver that
/// crashes or hangs does no harm.
#[derive(Args)]
#[command(after_help = "\
Examples:
  timburn doctor
  timburn doctor --json | jq '.checks[] | select(.status != \"ok\")'

The exit code is 1 when something that every use needs is broken, else 0, also with warnings.")]
pub(crate) struct Doctor {
    /// Print JSON: {"version", "checks": [{"name", "status", "found", "next", "details"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    name: String,
    status: Status,
    /// For people.
    found: String,
    /// What to do, where something is not as it could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// For programs.
    #[serde(skip_serializing_if = "Value::is_null")]
    details: Value,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, found: found.into(), next: None, details: Value::Null }
    }

    fn warn(name: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { status: Status::Warn, next: Some(next.into()), ..Self::ok(name, found) }
    }

    fn fail(name: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { status: Status::Fail, next: Some(next.into()), ..Self::ok(name, found) }
    }

    fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<u8> {
        if let Ok(name) = std::env::var(devices::PROBE) {
            return devices::probe(&name);
        }
        let environment = Environment::collect("none");
        let mut checks = vec![program(&environment)];
        checks.extend(devices::checks());
        checks.push(self_test());
        checks.extend(machine::checks(&environment));
        checks.extend(places::checks());
        checks.extend(variables(&environment));
        checks.push(terminal());

        let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        if self.json {
            output::json(&json!({ "version": environment.timburn, "status": worst, "checks": checks }))?;
        } else {
            let coloured = output::colours(&io::stdout());
            output::results(|out| checks.iter().try_for_each(|check| print(out, check, coloured)))?;
        }
        Ok(u8::from(worst == Status::Fail))
    }
}

fn print(out: &mut dyn Write, check: &Check, coloured: bool) -> io::Result<()> {
    let (word, colour) = match check.status {
        Status::Ok => ("ok", 32),
        Status::Warn => ("warn", 33),
        Status::Fail => ("fail", 31),
    };
    let (on, off) = if coloured { (format!("\u{1b}[{colour}m"), "\u{1b}[0m") } else { (String::new(), "") };
    writeln!(out, "{on}{word:4}{off}  {:16} {}", check.name, check.found)?;
    check.next.iter().try_for_each(|next| writeln!(out, "{:22} → {next}", ""))
}

fn program(environment: &Environment) -> Check {
    let commit = environment.commit.as_deref().map_or_else(String::new, |commit| format!(" ({commit})"));
    let found =
        format!("{}{commit}, {}, {}, built with {}", environment.timburn, environment.architecture, environment.os, environment.rustc);
    Check::ok("timburn", found).with(json!({
        "version": environment.timburn, "commit": environment.commit, "architecture": environment.architecture, "os": environment.os,
        "rustc": environment.rustc, "executable": std::env::current_exe().ok(),
    }))
}

/// The embedded network and the embedded photograph: decoding, weights and kernels in one.
fn self_test() -> Check {
    let name = "self-test";
    // Not on a GPU: its driver could take this process down.
    let Some(cpu) = ["flex", "ndarray"].into_iter().find(|name| timburn_core::device::compiled().contains(name)) else {
        return Check::ok(name, "left out: this build has no backend for the CPU");
    };
    let answer = open_device(cpu).and_then(|device| {
        let predictor = Predictor::embedded(&device)?;
        let classify = || predictor.classify_bytes(timburn_data::sample_photograph(), "sample photograph");
        classify()?;
        let started = std::time::Instant::now();
        Ok((classify()?, started.elapsed()))
    });
    let report = "report this with the output of `timburn doctor --json`";
    match answer {
        Ok((prediction, time)) => {
            let best = prediction.top(1).into_iter().next();
            let (label, probability) = best.map_or_else(|| (String::new(), 0.0), |guess| (guess.label, guess.probability));
            let milliseconds = 1000.0 * time.as_secs_f64();
            let found = format!("the sample photograph is a {label} ({:.0} %), {milliseconds:.1} ms a picture", 100.0 * probability);
            let details = json!({ "label": label, "score": probability, "milliseconds": milliseconds });
            // One of ImageNet's cats, whatever the rounding of this machine.
            let right = ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"].iter().any(|cat| label.contains(cat));
            if right {
                Check::ok(name, found).with(details)
            } else {
                Check::fail(name, found, format!("it is a cat: {report}")).with(details)
            }
        }
        Err(error) => Check::fail(name, error.to_string(), report),
    }
}

/// Variables that change what timburn does. Secrets are not shown.
fn variables(environment: &Environment) -> Vec<Check> {
    let mut shown: std::collections::BTreeMap<String, String> = environment.variables.clone();
    for name in ["CLICOLOR", "CLICOLOR_FORCE", "HF_ENDPOINT", "TORCH_HOME", "XDG_CACHE_HOME"] {
        if let Ok(value) = std::env::var(name) {
            shown.insert(name.into(), value);
        }
    }
    for name in ["HF_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        if std::env::var_os(name).is_some() {
            shown.insert(name.into(), "set, not shown".into());
        }
    }
    for (name, value) in &mut shown {
        if ["TOKEN", "SECRET", "PASSWORD", "KEY"].iter().any(|word| name.contains(word)) {
            *value = "set, not shown".into();
        }
    }
    let text: Vec<String> = shown.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let found = if text.is_empty() { "none that matters is set".to_owned() } else { text.join(" ") };
    let mut checks = vec![Check::ok("environment", found).with(json!(shown))];
    if let Ok(value) = std::env::var("RAYON_NUM_THREADS") {
        let cores = environment.cores;
        let next = format!("unset it, or set it to 1 to {cores}");
        match value.parse::<usize>() {
            Ok(threads) if threads > cores => {
                checks.push(Check::warn("threads", format!("RAYON_NUM_THREADS={threads}, {cores} can run at once"), next));
            }
            Ok(_) => {}
            Err(_) => checks.push(Check::warn("threads", format!("RAYON_NUM_THREADS={value} is no number and has no effect"), next)),
        }
    }
    checks
}

fn terminal() -> Check {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let is = |yes: bool| if yes { "a terminal" } else { "no terminal" };
    let colour = if output::colours(&stderr) { "colours" } else { "no colours" };
    let bars = if stderr.is_terminal() { "progress bars" } else { "no progress bars" };
    let details = json!({
        "stdout": stdout.is_terminal(), "stderr": stderr.is_terminal(), "colour": output::colours(&stderr),
        "term": std::env::var("TERM").ok(),
    });
    let found = format!("stdout is {}, stderr is {}: {colour}, {bars}", is(stdout.is_terminal()), is(stderr.is_terminal()));
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty());
    let plain = cfg!(unix) && locale.as_deref().is_some_and(|locale| !locale.to_lowercase().replace('-', "").contains("utf8"));
    if plain && stderr.is_terminal() {
        let next = "bars and charts need UTF-8: export LANG=C.UTF-8";
        return Check::warn("terminal", format!("{found}; locale {}", locale.unwrap_or_default()), next).with(details);
    }
    Check::ok("terminal", found).with(details)
}
