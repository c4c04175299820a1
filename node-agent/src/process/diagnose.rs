//! What a hung child hangs in: each thread with its state, the function of the kernel it waits in and the
//! processor time it used, as the kernel tells without a debugger; and the stacks, when a debugger is installed.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Begins the diagnosis in a log; the lines before it are the trainer's own last ones.
pub const MARKER: &str = "node-agent: this trainer hangs. Its threads:";
/// More threads than this are only counted.
const THREADS_MAX: usize = 64;
/// A debugger that needs longer (for the symbols of large libraries) is not waited for.
const DEBUGGER_LIMIT: Duration = Duration::from_secs(20);
const STACKS_MAX_BYTES: usize = 64 * 1024;

/// Writes what `pid` hangs in to the end of its log.
pub async fn write(log: &Path, pid: u32) -> io::Result<()> {
    let mut text = format!("{MARKER}\n{}", threads_of(pid));
    match stacks_of(pid).await {
        Some(stacks) => text += &stacks,
        None => text += "  no stacks: install gdb or elfutils (eu-stack) on this node to have them here\n",
    }
    fs::OpenOptions::new().append(true).open(log)?.write_all(text.as_bytes())
}

/// The threads of `pid`, one a line; says so when there is nothing to be read.
fn threads_of(pid: u32) -> String {
    let folder = format!("/proc/{pid}/task");
    let Ok(entries) = fs::read_dir(&folder) else { return format!("  {folder} can not be read\n") };
    let mut text = String::new();
    let mut ids: Vec<u32> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    for id in ids.iter().take(THREADS_MAX) {
        let line = thread(&Path::new(&folder).join(id.to_string()));
        // Writing to a string does not fail.
        let _ = writeln!(text, "  thread {id}: {line}");
    }
    if ids.len() > THREADS_MAX {
        let _ = writeln!(text, "  and {} more", ids.len() - THREADS_MAX);
    }
    text
}

fn thread(folder: &Path) -> String {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let stat = read("stat");
    // The second field is the name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or("?");
    let waits = match read("wchan").trim() {
        "" | "0" => "user code".to_owned(),
        function => function.to_owned(),
    };
    let (name, state, user, system) = (read("comm"), field(0), field(11), field(12));
    format!("{}, state {state}, in {waits}, processor ticks {user} user {system} system", name.trim())
}

/// The stacks of all threads by the first debugger that is installed and may look.
async fn stacks_of(pid: u32) -> Option<String> {
    let pid = pid.to_string();
    let gdb = ["-p", &pid, "-batch", "-nx", "-ex", "thread apply all backtrace 24"];
    for (program, args) in [("eu-stack", &["-p", &pid][..]), ("gdb", &gdb)] {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let Ok(Ok(output)) = tokio::time::timeout(DEBUGGER_LIMIT, command.output()).await else { continue };
        let told = String::from_utf8_lossy(&output.stdout);
        let frames = told.lines().filter(|line| line.starts_with('#'));
        if frames.count() > 0 {
            let cut = told.floor_char_boundary(STACKS_MAX_BYTES);
            return Some(format!("  by {program}:\n{}\n", told[..cut].trim_end()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeping_process_is_told_with_its_thread() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "its own line\n").unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        write(&log, child.id()).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let told = fs::read_to_string(&log).unwrap();
        assert!(told.starts_with(&format!("its own line\n{MARKER}\n  thread {}: ", child.id())), "{told}");
        assert!(
            told.contains("sleep, state ") && told.contains(" stacks: ") | told.contains(" by "),
            "{told}"
        );
        assert!(threads_of(child.id()).contains("can not be read"));
    }
}
