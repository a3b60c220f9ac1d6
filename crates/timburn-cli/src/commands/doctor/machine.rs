//! Processor and memory.

use std::fs;

use serde_json::json;
use timburn_infer::CpuKernels;
use timburn_train::run::Environment;

use super::Check;

/// Memory below which training a ResNet-50 on photographs has no room.
const LITTLE: u64 = 2 << 30;

pub(super) fn checks(environment: &Environment) -> Vec<Check> {
    vec![processor(environment), memory(environment)]
}

fn processor(environment: &Environment) -> Check {
    let name = environment.cpu.as_deref().unwrap_or("a processor that does not say its name");
    let mut features = environment.cpu_features.clone();
    // Rust does not detect these yet.
    let flags = flags();
    features
        .extend(["amx_tile", "amx_int8", "amx_bf16"].into_iter().filter(|flag| flags.iter().any(|found| found == flag)).map(str::to_owned));
    let mut found = format!("{name}, {} threads; {}", environment.cores, features.join(" "));
    let mut details = json!({ "name": environment.cpu, "threads": environment.cores, "features": features });
    let Some(kernels) = CpuKernels::detect() else { return Check::ok("processor", found).with(details) };
    found.push_str(&format!("; kernels: {}, {} × f32", kernels.level, kernels.lanes));
    details["kernels"] = kernels.level.into();
    details["vector_lanes"] = kernels.lanes.into();
    details["levels"] = json!(kernels.available);
    let best = kernels.available.last().copied().unwrap_or(kernels.level);
    if let Some(refused) = &kernels.refused {
        found.push_str(&format!("; TIMBURN_CPU={refused} has no effect"));
        return Check::warn("processor", found, format!("unset it, or set it to one of {}", kernels.available.join(", "))).with(details);
    }
    if kernels.named {
        let what = if kernels.level == best { "the processor's instructions for bf16 and int8" } else { best };
        found.push_str(&format!("; TIMBURN_CPU={} keeps them from {what}", kernels.level));
        return Check::warn("processor", found, "unset it for full speed").with(details);
    }
    if environment.architecture == "x86_64" && kernels.lanes < 8 {
        let next = "expect a quarter of the speed; in a virtual machine, let it see the host's processor (AVX2)";
        return Check::warn("processor", found, next).with(details);
    }
    Check::ok("processor", found).with(details)
}

/// The flags of Linux' list of processors.
fn flags() -> Vec<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == "flags"));
    line.map(|(_, flags)| flags.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

fn memory(environment: &Environment) -> Check {
    let available = meminfo("MemAvailable");
    // In a container, the limit is what counts.
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let limit = limit.filter(|limit| environment.memory.is_none_or(|total| *limit < total));
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let mut found = environment.memory.map_or_else(|| "not known on this system".to_owned(), gigabytes);
    found.extend(available.map(|bytes| format!(", {} available", gigabytes(bytes))));
    found.extend(limit.map(|bytes| format!(", limited to {}", gigabytes(bytes))));
    let details = json!({ "total": environment.memory, "available": available, "limit": limit });
    match [available, limit].into_iter().flatten().min() {
        Some(room) if room < LITTLE => {
            Check::warn("memory", found, "enough to predict; for training close other programs or choose a small --batch").with(details)
        }
        _ => Check::ok("memory", found).with(details),
    }
}

fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
