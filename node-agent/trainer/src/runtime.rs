//! The first torch call of a process, and what must happen before it.
//!
//! One binary serves machines with and without a GPU: it links libtorch_cpu only. Where libtorch_cuda lies
//! beside it, that library must be opened before any other torch call, because the first question about CUDA
//! caches the answer of the stub hooks for the life of the process.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What was found when libtorch was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaLibrary {
    /// No libtorch_cuda beside libtorch_cpu: a CPU-only installation.
    Absent,
    /// Opened; whether a device answers is [`tch::Cuda::is_available`]'s to say.
    Opened(PathBuf),
    /// There, but it could not be opened (the loader's words).
    Broken(String),
}

static STARTED: OnceLock<CudaLibrary> = OnceLock::new();

/// Prepares heap and CUDA library once per process. Call it before anything else of torch, tests included.
pub fn init() -> &'static CudaLibrary {
    STARTED.get_or_init(|| {
        keep_heap();
        let cuda = open_cuda();
        // The operations of one small graph batch have nothing to run side by side.
        tch::set_num_interop_threads(1);
        cuda
    })
}

/// How long an OpenMP thread turns round before it sleeps. The default of 300,000 turns (milliseconds) is for
/// a machine of one's own: with more threads than free cores it cost two thirds of all CPU time here. A
/// thousand turns bridge the gaps between two operations of a step and little more.
const SPIN_COUNT: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// Starts this program once more with [`SPIN_COUNT`] in its environment, because libgomp reads it while it is
/// loaded, before `main`. Keeps process id, pipes and arguments. Does nothing where the user has set a policy.
///
/// # Errors
/// When the kernel refuses; the process goes on as it is then.
pub fn restart_with_short_spin() -> std::io::Result<()> {
    let set = |name: &str| std::env::var_os(name).is_some();
    if set(SPIN_COUNT.0) || set("OMP_WAIT_POLICY") {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(SPIN_COUNT.0, SPIN_COUNT.1)
        .exec();
    Err(error)
}

/// Sets the threads of one tensor operation; at least one.
pub fn set_threads(threads: u32) {
    let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
    tch::set_num_threads(threads);
}

/// Keeps freed blocks in the process: every training step asks for the same large tensors again, and giving
/// them back to the kernel costs a fifth of the time in page faults.
fn keep_heap() {
    // SAFETY: mallopt only changes parameters of the allocator and takes two plain integers.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

fn open_cuda() -> CudaLibrary {
    let Some(library) = libtorch_folder().map(|folder| folder.join("libtorch_cuda.so")) else {
        return CudaLibrary::Absent;
    };
    if !library.exists() {
        return CudaLibrary::Absent;
    }
    let Ok(name) = CString::new(library.as_os_str().as_bytes()) else {
        return CudaLibrary::Broken(format!("{} has a NUL byte in its name", library.display()));
    };
    // SAFETY: `name` is a valid C string for the call; the library is never closed again.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return CudaLibrary::Opened(library);
    }
    // SAFETY: dlerror returns NULL or a string that stays valid until the next dl call of this thread.
    let words = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "unknown loader error".to_owned()
        } else {
            std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    CudaLibrary::Broken(words)
}

/// The folder libtorch_cpu was mapped from, as the kernel tells it.
fn libtorch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find(|line| line.contains("libtorch_cpu"))?;
    let path = PathBuf::from(&path[path.find('/')?..]);
    path.parent().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_mapped_and_starts() {
        let first = init().clone();
        assert_eq!(&first, init(), "a second call must not start anything again");
        assert!(libtorch_folder().is_some_and(|folder| folder.is_dir()));
        set_threads(0);
        assert_eq!(tch::get_num_threads(), 1);
    }
}
