//! A small HTTP/1.1 client: one keep-alive connection, whose sending and receiving are separate calls, so that a test can
//! send on many connections before it reads any answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything a test waits for: a hang becomes an error.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
}

/// One answer; header names are in lower case.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header; panics if there are several, because the tests never expect that.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(
            values.next().is_none(),
            "header {name} is there twice: {:?}",
            self.headers
        );
        first
    }

    /// The value of a header as a number; panics without it.
    pub fn number(&self, name: &str) -> u64 {
        let value = self
            .header(name)
            .unwrap_or_else(|| panic!("no header {name} in {self:?}"));
        value
            .parse()
            .unwrap_or_else(|_| panic!("header {name} is not a number: {value}"))
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            reader: BufReader::new(stream),
            address,
        })
    }

    /// Sends a GET request.
    pub fn send(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        self.send_body("GET", path, headers, "")
    }

    /// Sends a request with a body, in one write.
    pub fn send_body(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<()> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.reader.get_mut().write_all(request.as_bytes())
    }

    /// Reads the answer to the oldest request that has none yet.
    pub fn receive(&mut self) -> io::Result<Response> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| invalid(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let body = self.body(status, &headers)?;
        Ok(Response {
            status,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Sends a GET request and reads its answer.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        self.send(path, headers)?;
        self.receive()
    }

    fn body(&mut self, status: u16, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
        let find = |name| {
            headers
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let mut body = Vec::new();
        if find("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
                let size = size.map_err(|_| invalid(format!("not the size of a chunk: {line:?}")))?;
                self.exact(size, &mut body)?;
                // The end of the chunk, or, as nobody here sends trailers, of the message.
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        if let Some(length) = find("content-length") {
            let length = length
                .parse()
                .map_err(|_| invalid(format!("not a length: {length:?}")))?;
            self.exact(length, &mut body)?;
        } else if status != 204 && status != 304 {
            self.reader.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    fn exact(&mut self, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let start = into.len();
        into.resize(start + length, 0);
        self.reader.read_exact(&mut into[start..])
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A GET request on a connection of its own.
pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    Connection::open(address)?.get(path, headers)
}

/// A POST request on a connection of its own.
pub fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<Response> {
    let mut connection = Connection::open(address)?;
    // As `curl -d` sends it.
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    connection.send_body("POST", path, &headers, body)?;
    connection.receive()
}
