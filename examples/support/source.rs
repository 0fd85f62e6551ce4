//! Where lines come from: files, standard input, or a generator. Each line has an end position, which names it within its source.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::Failure;
use super::home::LINE_BYTES_MAX;

/// How long piped standard input is waited for when nobody asked for it with `--input -`.
const PIPE_WAIT: Duration = Duration::from_millis(500);

/// A sequence of lines.
pub trait Lines: Send {
    /// Goes to the first line behind `position`, an end position given before.
    fn seek(&mut self, position: u64) -> io::Result<()>;

    /// Puts the next line, without its line end, into `line`; its end position, or `None` at the end.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<u64>>;
}

/// Lines with what to call them.
pub struct Source {
    /// The same name means the same lines, run after run.
    pub name: String,
    /// End position of the last line, where it is known.
    pub end: Option<u64>,
    /// Whether a later run can go on behind what an earlier one has read.
    pub is_resumable: bool,
    /// The lines.
    pub lines: Box<dyn Lines>,
    /// Position of the line read last.
    start: u64,
    position: u64,
}

impl Source {
    /// Lines under a name.
    pub fn new(name: String, end: Option<u64>, is_resumable: bool, lines: Box<dyn Lines>) -> Self {
        Self { name, end, is_resumable, lines, start: 0, position: 0 }
    }

    /// The files of `--input`; without any, what is piped into standard input, or else `fallback`.
    pub fn from_input(
        input: &[PathBuf],
        fallback: impl FnOnce() -> Result<Self, Failure>,
    ) -> Result<Vec<Self>, Failure> {
        if !input.is_empty() {
            return input.iter().map(|path| Self::named(path)).collect();
        }
        Ok(vec![match piped() {
            Some(reader) => Self::reader(reader),
            None => fallback()?,
        }])
    }

    fn named(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") { Ok(Self::reader(Box::new(io::stdin()))) } else { Self::file(path) }
    }

    /// The lines of a file.
    pub fn file(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(format!("cannot read {}: {error}", path.display()))
                .hint("Check the name given to --input, and that you may read it.")
        };
        let name = path.canonicalize().map_err(failed)?.display().to_string();
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::new(format!("{} is a directory", path.display()))
                .hint("Name its files: --input DIR/* reads them one after another."));
        }
        let is_resumable = metadata.is_file();
        let lines = TextLines { reader: BufReader::with_capacity(1 << 17, file), position: 0 };
        Ok(Self::new(name, is_resumable.then_some(metadata.len()), is_resumable, Box::new(lines)))
    }

    fn reader(reader: Box<dyn Read + Send>) -> Self {
        let lines = TextLines { reader: BufReader::with_capacity(1 << 17, Unseekable(reader)), position: 0 };
        Self::new("standard input".to_owned(), None, false, Box::new(lines))
    }

    /// Refuses a source whose lines behind `position` are not UTF-8, before anything of it is fed.
    pub fn check_utf8(&mut self, position: u64) -> Result<(), Failure> {
        let mut line = Vec::new();
        self.seek(position)?;
        while self.next(&mut line)?.is_some() {
            self.utf8(&line)?;
        }
        self.seek(position)
    }

    /// Refuses a line that is not UTF-8.
    pub fn utf8(&self, line: &[u8]) -> Result<(), Failure> {
        let Err(error) = std::str::from_utf8(line) else { return Ok(()) };
        let at = self.start + error.valid_up_to() as u64;
        Err(Failure::new(format!("{} is not UTF-8: byte {at} belongs to no character", self.name))
            .hint("Nothing of it was added. Convert it, for example: iconv -f latin1 -t utf-8 FILE > NEW"))
    }

    /// As [`Lines::seek`].
    pub fn seek(&mut self, position: u64) -> Result<(), Failure> {
        self.position = position;
        self.lines.seek(position).map_err(|error| self.failed(&error))
    }

    /// As [`Lines::next`].
    pub fn next(&mut self, line: &mut Vec<u8>) -> Result<Option<u64>, Failure> {
        let end = self.lines.next(line).map_err(|error| self.failed(&error))?;
        self.start = self.position;
        self.position = end.unwrap_or(self.position);
        Ok(end)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(format!("cannot read {}: {error}", self.name))
            .hint("What was read before is kept; start again to go on behind it.")
    }
}

/// Lines of text; a position is the number of bytes up to and with the line end.
struct TextLines<R> {
    reader: BufReader<R>,
    position: u64,
}

impl<R: Read + Seek + Send> Lines for TextLines<R> {
    fn seek(&mut self, position: u64) -> io::Result<()> {
        if position != self.position {
            self.reader.seek(SeekFrom::Start(position))?;
            self.position = position;
        }
        Ok(())
    }

    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<u64>> {
        line.clear();
        let read = (&mut self.reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(None);
        }
        if read == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 64 MiB"));
        }
        self.position += read as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(self.position))
    }
}

/// What can only be read forward; it is never asked to seek elsewhere, since it is not resumable.
struct Unseekable(Box<dyn Read + Send>);

impl Read for Unseekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Unseekable {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "it cannot be read twice"))
    }
}

/// Standard input if it is a file, or a pipe that has something to say.
fn piped() -> Option<Box<dyn Read + Send>> {
    let kind = std::fs::metadata("/dev/stdin").ok()?.file_type();
    if kind.is_file() {
        return Some(Box::new(io::stdin()));
    }
    if !is_pipe(kind) {
        return None;
    }
    // A pipe may be open and silent for ever (a service manager's, say): whether it speaks shows on another thread.
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut first = vec![0; 1 << 16];
        if let Ok(size) = io::stdin().read(&mut first) {
            first.truncate(size);
            // Nobody listens any more if it came too late.
            let _ = send.send(first);
        }
    });
    let first = receive.recv_timeout(PIPE_WAIT).ok().filter(|first| !first.is_empty())?;
    Some(Box::new(io::Cursor::new(first).chain(io::stdin())))
}

#[cfg(unix)]
fn is_pipe(kind: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&kind)
}

#[cfg(not(unix))]
fn is_pipe(_: std::fs::FileType) -> bool {
    false
}
