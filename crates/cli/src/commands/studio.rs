//! `tunesmith studio`: the web app and its server.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use tunesmith_ops::COMPILED_BACKENDS;
use tunesmith_server::{Access, ServeOptions, ServerError, run as serve};

use crate::allocator;
use crate::failure::{Exit, Failure};
use crate::model_store;
use crate::terminal::{Style, Terminal};

/// Start the studio: import data, train, watch, compare and chat in a browser
///
/// Serves the web app, its interface for programs, and one that OpenAI's clients speak (below /v1), all from this machine;
/// nothing is fetched from elsewhere. Training runs are processes of their own: they go on when the browser is closed and when
/// the studio ends, and the next start finds them again. Other machines can reach it only with `--host` and a password.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith studio
  tunesmith studio --port 8080 --workdir /data/tunesmith --no-open
  TUNESMITH_PASSWORD=… tunesmith studio --host 0.0.0.0")]
pub(crate) struct StudioArgs {
    /// Port to listen on; 0 takes any that is free
    #[arg(long, value_name = "N", default_value_t = 10101)]
    port: u16,

    /// Address to listen on; any but this machine's own needs a password
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,

    /// Folder for data sets, experiments and settings; default: $TUNESMITH_STUDIO, else ~/tunesmith
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Ask for this password; better given as $TUNESMITH_PASSWORD, which other users of the machine do not see
    #[arg(long, value_name = "TEXT")]
    password: Option<String>,

    /// Do not open the browser
    #[arg(long)]
    no_open: bool,
}

/// Serves until Ctrl-C.
pub(crate) fn run(args: &StudioArgs, terminal: &Terminal) -> Result<(), Failure> {
    allocator::give_back();
    let program = env::current_exe().map_err(|error| {
        Failure::new(Exit::Internal, format!("cannot tell where this program is: {error}"))
    })?;
    let password = args.password.clone().or_else(|| env::var("TUNESMITH_PASSWORD").ok());
    let options = ServeOptions {
        host: args.host.clone(),
        port: args.port,
        workdir: workdir(args)?,
        access: Access { password: password.filter(|password| !password.is_empty()) },
        program,
        cache_dir: model_store::cache_dir()?,
        compiled_backends: COMPILED_BACKENDS.to_vec(),
    };
    let is_opened = terminal.is_interactive() && !args.no_open;
    let folder = options.workdir.display().to_string();
    serve(options, move |address| {
        // Another thread may be the one that gets here, so it takes a terminal of its own.
        let terminal = Terminal::new(false);
        let host =
            if address.ip().is_unspecified() { "localhost".to_owned() } else { bracketed(address.ip()) };
        let url = format!("http://{host}:{}", address.port());
        terminal.line(format_args!("studio: {}", terminal.paint(Style::Cyan, &url)));
        terminal.note(format_args!("work folder {folder}; Ctrl-C ends the studio, runs go on"));
        if is_opened {
            open_browser(&url);
        }
    })
    .map_err(failure)
}

fn workdir(args: &StudioArgs) -> Result<PathBuf, Failure> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    args.workdir
        .clone()
        .or_else(|| variable("TUNESMITH_STUDIO"))
        .or_else(|| variable("HOME").map(|home| home.join("tunesmith")))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no place for the studio: HOME is not set")
                .hint("give --workdir DIR")
        })
}

fn bracketed(address: std::net::IpAddr) -> String {
    match address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Where there is no browser to open, the address was printed.
fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(target_os = "windows") {
        "explorer"
    } else {
        "xdg-open"
    };
    let _ = Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

fn failure(error: ServerError) -> Failure {
    let exit = match &error {
        ServerError::NoPassword { .. } | ServerError::Listen { .. } => Exit::Usage,
        ServerError::Workdir { .. } | ServerError::Store(_) => Exit::Output,
        _ => Exit::Internal,
    };
    let hint = error.hint();
    Failure::from_error(exit, &error, hint)
}
