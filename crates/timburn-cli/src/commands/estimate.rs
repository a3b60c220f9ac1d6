//! What work will take, and whether there is a place for its results: for `--dry-run`.

use std::path::Path;
use std::time::{Duration, Instant};

use timburn_core::device::Device;
use timburn_core::{Error, Preprocessing, Result};
use timburn_data::Rgb8Image;
use timburn_models::ImageModel;

/// Time of `passes` forward passes, from two batches of black pictures of which the second counts. Decoding is not part of it.
pub(super) fn forward_time<M: ImageModel>(
    model: &M,
    preprocessing: &Preprocessing,
    passes: usize,
    batch: usize,
    device: &Device,
) -> Result<Duration> {
    let side = preprocessing.input;
    let count = batch.clamp(1, passes.max(1));
    let image = Rgb8Image { width: side, height: side, pixels: vec![0; 3 * side * side] };
    let images = vec![image; count];
    let mut last = Duration::ZERO;
    for _ in 0..2 {
        let input = timburn_data::to_tensor(&images, preprocessing, device)?;
        let started = Instant::now();
        // Reading the answer waits for a device that computes on its own.
        let _ = model.forward(input).into_data();
        last = started.elapsed();
    }
    Ok(last.mul_f64(passes as f64 / count as f64))
}

/// `about 40 s`, `about 3 min`, `about 2.5 h`.
pub(super) fn about(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        "under a second".into()
    } else if seconds < 100.0 {
        format!("about {seconds:.0} s")
    } else if seconds < 6000.0 {
        format!("about {:.0} min", seconds / 60.0)
    } else {
        format!("about {:.1} h", seconds / 3600.0)
    }
}

/// Refuses a folder for results that holds something already, unless it may be overwritten, or whose place cannot be written to.
pub(super) fn check_output(path: &Path, overwrite: bool) -> Result<()> {
    let occupied = path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !overwrite {
        let expected = "a folder that is new or empty, or --overwrite".into();
        return Err(Error::Argument { name: "--output", value: path.display().to_string(), expected });
    }
    check_place(path)
}

/// Refuses a path below something that is no folder or cannot be written.
pub(super) fn check_place(path: &Path) -> Result<()> {
    let absolute = std::path::absolute(path).map_err(Error::io("find", path))?;
    let Some(nearest) = absolute.ancestors().find(|ancestor| ancestor.exists()) else { return Ok(()) };
    let metadata = std::fs::metadata(nearest).map_err(Error::io("read", nearest))?;
    if !metadata.is_dir() && nearest != absolute {
        return Err(Error::io("create a folder in", nearest)(std::io::ErrorKind::NotADirectory.into()));
    }
    if metadata.permissions().readonly() {
        return Err(Error::io("write to", nearest)(std::io::ErrorKind::PermissionDenied.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_units_that_fit() {
        let told = [0.3, 41.0, 170.0, 9000.0].map(|seconds| about(Duration::from_secs_f64(seconds)));
        assert_eq!(told, ["under a second", "about 41 s", "about 3 min", "about 2.5 h"]);
    }

    #[test]
    fn places_are_checked_without_writing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, run) = (folder.path().join("file"), folder.path().join("a/b/c"));
        std::fs::write(&file, "").unwrap();
        check_output(&run, false).unwrap();
        assert!(check_output(folder.path(), false).unwrap_err().to_string().contains("--overwrite"));
        check_output(folder.path(), true).unwrap();
        assert!(matches!(check_output(&file.join("below"), false), Err(Error::Io { .. })));
        assert!(!run.exists());
    }
}
