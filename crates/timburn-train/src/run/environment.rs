use std::collections::BTreeMap;
use std::{env, fs, thread};

use serde::{Deserialize, Serialize};

use super::utc;

/// Prefixes and names of the environment variables that change what a run does. No others are recorded: they may be secrets.
const VARIABLES: [&str; 12] = [
    "BURN_",
    "CUBECL_",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HIP_VISIBLE_DEVICES",
    "NO_COLOR",
    "RAYON_NUM_THREADS",
    "RUST_LOG",
    "TIMBURN_",
    "WGPU_",
];

/// Where and with what a run was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// UTC, ISO 8601.
    pub started: String,
    /// Version of timburn.
    pub timburn: String,
    /// Commit it was built from, where `TIMBURN_COMMIT` said so when it was built.
    pub commit: Option<String>,
    /// The compiler's version.
    pub rustc: String,
    /// Name and version of the operating system and its kernel, as far as they can be read.
    pub os: String,
    /// Instruction set, as Rust names it.
    pub architecture: String,
    /// The processor's name.
    pub cpu: Option<String>,
    /// Instruction set extensions that matter to the kernels and that this processor has.
    pub cpu_features: Vec<String>,
    /// Threads that can run at once.
    pub cores: usize,
    /// Main memory in bytes.
    pub memory: Option<u64>,
    /// The device, as the caller names it.
    pub device: String,
    /// The command line.
    pub command: Vec<String>,
    /// The variables that change what a run does.
    pub variables: BTreeMap<String, String>,
}

impl Environment {
    /// Looks around. What cannot be found out is left out.
    pub fn collect(device: &str) -> Self {
        Self {
            started: utc::now(),
            timburn: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("TIMBURN_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_owned),
            rustc: env!("TIMBURN_RUSTC").to_owned(),
            os: os(),
            architecture: env::consts::ARCH.to_owned(),
            cpu: cpu(),
            cpu_features: cpu_features().into_iter().filter(|(_, present)| *present).map(|(name, _)| name.to_owned()).collect(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: memory(),
            device: device.to_owned(),
            command: env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            variables: variables(),
        }
    }
}

fn variables() -> BTreeMap<String, String> {
    let pairs = env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    let matters = |name: &str| VARIABLES.iter().any(|known| if known.ends_with('_') { name.starts_with(known) } else { name == *known });
    // Run folders are shared: a secret stays out whatever it is called.
    let secret = |name: &str| ["TOKEN", "SECRET", "PASSWORD", "KEY"].iter().any(|word| name.contains(word));
    pairs.filter(|(name, _)| matters(name) && !secret(name)).collect()
}

fn os() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let mut os = name.unwrap_or_else(|| env::consts::OS.to_owned());
    if let Some(kernel) = kernel {
        os = format!("{os}, {} {}", env::consts::OS, kernel.trim());
    }
    os
}

fn cpu() -> Option<String> {
    field("/proc/cpuinfo", "model name")
}

fn memory() -> Option<u64> {
    let text = field("/proc/meminfo", "MemTotal")?;
    Some(text.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The first `key : value` of a file of such lines.
fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key));
    value.map(|(_, value)| value.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected as has;
    vec![
        ("sse4.2", has!("sse4.2")),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("f16c", has!("f16c")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512vnni", has!("avx512vnni")),
        ("avx512bf16", has!("avx512bf16")),
        ("avx512fp16", has!("avx512fp16")),
        ("avxvnni", has!("avxvnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected as has;
    vec![
        ("neon", has!("neon")),
        ("fp16", has!("fp16")),
        ("dotprod", has!("dotprod")),
        ("bf16", has!("bf16")),
        ("i8mm", has!("i8mm")),
        ("sve", has!("sve")),
        ("sve2", has!("sve2")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}
