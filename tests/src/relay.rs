//! A TCP relay on loopback that holds every byte for a fixed time in each direction, counts them, and can be cut or made to
//! hang: the link between a host and its off-site store.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// A relay; it ends with all its connections when it is dropped.
pub struct Relay {
    port: u16,
    link: Arc<Link>,
}

#[derive(Default)]
struct Link {
    one_way: Duration,
    state: Mutex<State>,
    changed: Condvar,
    up_bytes: AtomicU64,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    cut: bool,
    hung: bool,
    /// What to do when clients have sent so many bytes.
    hook: Option<(u64, Box<dyn FnOnce() + Send>)>,
    /// Of the connections that are open.
    sockets: Vec<TcpStream>,
}

impl Relay {
    /// Between a free port and `target` on 127.0.0.1.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(target: u16, one_way: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let link = Arc::new(Link { one_way, ..Link::default() });
        let serving = Arc::clone(&link);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let link = Arc::clone(&serving);
                thread::spawn(move || link.serve(client, target));
            }
        });
        Self { port, link }
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection and takes no other until [`Relay::mend`].
    pub fn cut(&self) {
        let mut state = self.link.state();
        state.cut = true;
        state.end_all();
    }

    /// Forwards nothing more and ends nothing, until [`Relay::mend`].
    pub fn hang(&self) {
        self.link.state().hung = true;
    }

    /// As good as new.
    pub fn mend(&self) {
        let mut state = self.link.state();
        (state.cut, state.hung) = (false, false);
        self.link.changed.notify_all();
    }

    /// Does `action` once, as soon as clients have sent `bytes` in all.
    pub fn at_up_bytes(&self, bytes: u64, action: impl FnOnce() + Send + 'static) {
        self.link.state().hook = Some((bytes, Box::new(action)));
    }

    /// Forgets what was to be done.
    pub fn forget(&self) {
        self.link.state().hook = None;
    }

    /// Bytes that clients have sent so far.
    #[must_use]
    pub fn up_bytes(&self) -> u64 {
        self.link.up_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.ended.store(true, Ordering::SeqCst);
        self.mend();
        self.cut();
        // The listener waits for a connection.
        let _woken = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
    }
}

impl State {
    fn end_all(&mut self) {
        for socket in self.sockets.drain(..) {
            let _ended = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: Arc<Self>, client: TcpStream, target: u16) {
        // A connection takes a round trip to be made.
        thread::sleep(self.one_way * 2);
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
        let mut copies = Vec::new();
        for socket in [&client, &server] {
            let _slower = socket.set_nodelay(true);
            copies.extend([socket.try_clone(), socket.try_clone()].into_iter().flatten());
        }
        {
            let mut state = self.state();
            state.sockets.extend([client, server]);
            if state.cut {
                state.end_all();
            }
        }
        let mut copies = copies.into_iter();
        let (Some(up_from), Some(down_to), Some(up_to), Some(down_from)) = (copies.next(), copies.next(), copies.next(), copies.next())
        else {
            return;
        };
        let link = Arc::clone(&self);
        thread::spawn(move || link.pump(up_from, up_to, true));
        self.pump(down_from, down_to, false);
    }

    fn pump(self: Arc<Self>, mut from: TcpStream, mut to: TcpStream, up: bool) {
        let (queue, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1 << 14);
        let link = Arc::clone(&self);
        thread::spawn(move || {
            for (due, bytes) in due {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                link.wait_while_hung();
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ended = to.shutdown(Shutdown::Write);
        });
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count) = from.read(&mut bytes) {
            let Some(read) = bytes.get(..count).filter(|read| !read.is_empty()) else { break };
            if up {
                let sent = self.up_bytes.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
                let due = self.state().hook.take_if(|(bytes, _)| *bytes <= sent);
                if let Some((_, action)) = due {
                    action();
                }
            }
            if queue.send((Instant::now() + self.one_way, read.to_vec())).is_err() {
                break;
            }
        }
    }

    fn wait_while_hung(&self) {
        let mut state = self.state();
        while state.hung {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
