//! A stretch of a log file on its way to a socket: within the kernel on Linux (`sendfile`), through memory elsewhere.

use std::io;

use protocol::api::ReadAt;
use tokio::net::TcpStream;

/// Sends up to `length` bytes of `file` from `position`, and says how many the socket took.
///
/// # Errors
/// `WouldBlock` when the socket takes none now; `UnexpectedEof` when the file ends before; what file and socket say.
pub(crate) fn send_file(stream: &TcpStream, file: &dyn ReadAt, position: u64, length: usize) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    if let Some(sent) = within_kernel(stream, file, position, length) {
        return sent;
    }
    through_memory(stream, file, position, length)
}

/// `None` where the file has no descriptor, or lies where the kernel cannot send from.
#[cfg(target_os = "linux")]
fn within_kernel(stream: &TcpStream, file: &dyn ReadAt, position: u64, length: usize) -> Option<io::Result<usize>> {
    use rustix::io::Errno;
    use std::os::fd::{AsFd, BorrowedFd};

    let fd = file.raw_fd()?;
    let sent = stream.try_io(tokio::io::Interest::WRITABLE, || {
        // SAFETY: the descriptor belongs to `file`, which outlives the borrow.
        let from = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut offset = position;
        Ok(rustix::fs::sendfile(stream.as_fd(), from, Some(&mut offset), length)?)
    });
    match sent {
        Ok(0) if length > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS)) => None,
        sent => Some(sent),
    }
}

fn through_memory(stream: &TcpStream, file: &dyn ReadAt, position: u64, length: usize) -> io::Result<usize> {
    let mut chunk = vec![0; length];
    file.read_exact_at(&mut chunk, position)?;
    stream.try_write(&chunk)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says where it failed")]

    use std::os::unix::fs::FileExt;

    use super::*;

    /// A file that tells its descriptor, or keeps it to itself.
    struct OnDisk {
        file: tempfile::NamedTempFile,
        has_descriptor: bool,
    }

    impl ReadAt for OnDisk {
        fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
            self.file.as_file().read_exact_at(buffer, position)
        }

        fn raw_fd(&self) -> Option<protocol::api::RawFd> {
            use std::os::fd::AsRawFd;
            self.has_descriptor.then(|| self.file.as_file().as_raw_fd())
        }
    }

    /// Sends all of `file` from `position` on, and returns what came out at the other end.
    async fn sent(file: &OnDisk, position: usize, total: usize) -> Vec<u8> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let send = async move {
            let mut at = position;
            while at < total {
                stream.writable().await.unwrap();
                match send_file(&stream, file, at as u64, (total - at).min(100_000)) {
                    Ok(count) => at += count,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
                }
            }
            let past = send_file(&stream, file, total as u64, 1).map_err(|error| error.kind());
            assert!(matches!(past, Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::WouldBlock)), "{past:?}");
        };
        let mut all = Vec::new();
        let ((), read) = tokio::join!(send, tokio::io::AsyncReadExt::read_to_end(&mut peer, &mut all));
        read.unwrap();
        all
    }

    #[tokio::test]
    async fn more_than_the_socket_holds_arrives_whole_with_and_without_a_descriptor() {
        let bytes: Vec<u8> = (0..8_000_003u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for has_descriptor in [true, false] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().write_all_at(&bytes, 0).unwrap();
            let came = sent(&OnDisk { file, has_descriptor }, 17, bytes.len()).await;
            assert!(came == bytes[17..], "{} bytes, descriptor {has_descriptor}", came.len());
        }
    }
}
