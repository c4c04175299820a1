//! The configuration file of a private server.

use std::path::Path;

/// What the file says.
pub(super) struct ServerConfig<'a> {
    /// -1 lets the server choose.
    pub port: i32,
    pub token: &'a str,
    pub store_dir: &'a Path,
    pub ports_dir: &'a Path,
    pub log_path: &'a Path,
}

impl ServerConfig<'_> {
    pub(super) fn text(&self) -> String {
        let quoted = |path: &Path| format!("{:?}", path.to_string_lossy());
        format!(
            "# Written anew at each start of the private server.\n\
             listen: \"127.0.0.1:{port}\"\n\
             http: \"127.0.0.1:-1\"\n\
             ports_file_dir: {ports_dir}\n\
             authorization {{ token: \"{token}\" }}\n\
             # By default the disk is told only every two minutes to keep what was acknowledged.\n\
             jetstream {{ store_dir: {store_dir}, sync_interval: always }}\n\
             log_file: {log_path}\n\
             logfile_size_limit: 10MB\n\
             logfile_max_num: 3\n",
            port = self.port,
            token = self.token,
            ports_dir = quoted(self.ports_dir),
            store_dir = quoted(self.store_dir),
            log_path = quoted(self.log_path),
        )
    }
}
