//! Which devices open.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use timburn_core::device::BACKENDS;
use timburn_core::error::DeviceError;
use timburn_core::{Error, Result, open_device};

use super::Check;
use crate::output;

/// The variable that makes `timburn doctor` open one backend's devices: not an option, so that completions and manuals do not know it.
pub(super) const PROBE: &str = "TIMBURN_DOCTOR_PROBE";
/// How long a driver may take to come up. Drivers compile their first kernels then.
const PATIENCE: Duration = Duration::from_secs(8);
/// Devices of a backend that are tried.
const MOST: usize = 16;

/// What a process found that opened a backend's devices.
#[derive(Serialize, Deserialize)]
struct Probed {
    devices: Vec<Opened>,
}

#[derive(Serialize, Deserialize)]
struct Opened {
    name: String,
    milliseconds: f64,
    error: Option<String>,
}

/// Opens the devices of a backend and prints what came of it, as [`checks`] reads it.
pub(super) fn probe(backend: &str) -> Result<u8> {
    // The error that names a device beyond the last says how many there are.
    let count = match open_device(&format!("{backend}:{}", usize::MAX)) {
        Err(Error::Device(DeviceError::NoSuchIndex { found, .. })) => found,
        _ => 1,
    };
    let devices = (0..count.clamp(1, MOST)).map(|index| {
        let name = if count > 1 { format!("{backend}:{index}") } else { backend.to_owned() };
        let started = Instant::now();
        let error = open_device(&name).err().map(|error| error.to_string());
        Opened { name, milliseconds: 1000.0 * started.elapsed().as_secs_f64(), error }
    });
    let probed = Probed { devices: devices.collect() };
    output::results(|out| serde_json::to_writer(out, &probed).map_err(Into::into))?;
    Ok(0)
}

/// A check for every device of every backend that is compiled in, and one for hardware without its backend.
pub(super) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    // All at once: each may take as long as it may.
    let probes: Vec<_> = BACKENDS.iter().filter(|backend| backend.compiled).map(|backend| (backend, start(backend.name))).collect();
    let deadline = Instant::now() + PATIENCE;
    for (backend, child) in probes {
        let label = format!("device {}", backend.name);
        let next = match backend.name {
            "cuda" => "is NVIDIA's driver installed? `nvidia-smi` says; until then use --device flex",
            "rocm" => "is AMD's driver installed? `rocminfo` says; until then use --device flex",
            "flex" => "this is always there: get the program again",
            _ => "is a driver for Vulkan, Metal or DirectX installed? Until then use --device flex",
        };
        let missing = |found: String| {
            let check = if backend.name == "flex" { Check::fail(&label, found, next) } else { Check::warn(&label, found, next) };
            check.with(json!({ "backend": backend.name, "opens": false }))
        };
        match child.and_then(|child| finish(child, deadline)) {
            Err(reason) => checks.push(missing(reason)),
            Ok(probed) => checks.extend(probed.devices.into_iter().map(|device| match device.error {
                Some(error) => missing(error),
                None => {
                    let details =
                        json!({ "backend": backend.name, "device": device.name, "opens": true, "milliseconds": device.milliseconds });
                    let found = format!("{}; opens as {} in {:.0} ms", backend.description, device.name, device.milliseconds);
                    Check::ok(&label, found).with(details)
                }
            })),
        }
    }
    checks.extend(unused_hardware());
    checks
}

fn start(backend: &str) -> std::result::Result<std::process::Child, String> {
    let program = std::env::current_exe().map_err(|error| format!("the program does not find itself: {error}"))?;
    let mut command = Command::new(program);
    command.arg("doctor").env(PROBE, backend).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("no process could be started: {error}"))
}

fn finish(mut child: std::process::Child, deadline: Instant) -> std::result::Result<Probed, String> {
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            waiting => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match waiting {
                    Err(error) => format!("could not be waited for: {error}"),
                    _ => format!("does not come up within {} s", PATIENCE.as_secs()),
                });
            }
        }
    };
    let mut text = String::new();
    // A few lines: they fit into the pipe.
    let read = child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut text));
    match (read, serde_json::from_str(text.lines().next_back().unwrap_or_default())) {
        (Some(Ok(_)), Ok(probed)) if status.success() => Ok(probed),
        _ => Err(format!("the driver crashed: {}", ending(status))),
    }
}

fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    status.to_string()
}

/// A GPU that this build cannot use.
fn unused_hardware() -> Option<Check> {
    let compiled = |name: &str| BACKENDS.iter().any(|backend| backend.name == name && backend.compiled);
    let gpus = [("/dev/nvidia0", "an NVIDIA GPU", "cuda"), ("/dev/kfd", "an AMD GPU", "rocm")];
    let any = ["cuda", "rocm", "metal", "vulkan", "wgpu"].into_iter().any(compiled);
    let (_, what, feature) = gpus.into_iter().find(|(path, _, _)| !any && std::path::Path::new(path).exists())?;
    let next = format!("build it in: cargo install --path crates/timburn-cli --features {feature}");
    Some(Check::warn("device", format!("{what} is here, and this build has no backend for it"), next))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(script: &str, patience: Duration) -> std::result::Result<usize, String> {
        let child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a shell");
        finish(child, Instant::now() + patience).map(|probed| probed.devices.len())
    }

    #[test]
    fn drivers_that_crash_hang_or_babble_take_nothing_down() {
        let long = Duration::from_secs(20);
        let good = r#"echo 'a driver says hello'; echo '{"devices":[{"name":"cuda:0","milliseconds":1.5,"error":null}]}'"#;
        assert_eq!(outcome(good, long), Ok(1));
        assert_eq!(outcome("kill -SEGV $$", long), Err("the driver crashed: signal 11".into()));
        assert!(outcome("echo nonsense", long).unwrap_err().starts_with("the driver crashed"));
        assert!(outcome(&format!("{good}; exit 3"), long).is_err(), "what it said before it crashed does not count");
        let started = Instant::now();
        assert!(outcome("sleep 60", Duration::from_millis(50)).unwrap_err().contains("does not come up"));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
