//! Async work with real sockets: a body goes to the plugin itself over the
//! loopback interface, and comes back.

use replug_plugin_api::Result;
use std::net::Ipv4Addr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The same bytes, after a way through two sockets.
///
/// # Errors
/// Those of the sockets.
pub async fn echo(body: Vec<u8>) -> Result<Vec<u8>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(answer_one(listener));
    let (mut reader, mut writer) = TcpStream::connect(address).await?.into_split();
    let mut echoed = Vec::with_capacity(body.len());
    // Both ways at once: a body larger than the buffers of the sockets would
    // otherwise wait for itself.
    let send = async {
        writer.write_all(&body).await?;
        writer.shutdown().await
    };
    tokio::try_join!(send, reader.read_to_end(&mut echoed))?;
    server.await??;
    Ok(echoed)
}

async fn answer_one(listener: TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_over_the_socket_whatever_its_size() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        for size in [0, 1, 4 << 20] {
            let body = vec![7; size];
            let echoed = runtime.block_on(echo(body.clone())).expect("echo");
            assert!(echoed == body, "{size} bytes");
        }
    }
}
