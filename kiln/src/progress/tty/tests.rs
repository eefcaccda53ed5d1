//! What a terminal shows of the frames, by a terminal emulator.

use super::*;
use kiln_solver::Hit;

/// A display on a terminal of its own.
struct Screen {
    tty: Tty,
    terminal: vt100::Parser,
    groups: usize,
}

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl Screen {
    fn new(rows: usize, columns: usize) -> Self {
        let terminal = vt100::Parser::new(rows as u16, columns as u16, 1000);
        Self { tty: Tty::new(false, move || Size { rows, columns }), terminal, groups: 0 }
    }

    fn start(&mut self, now: u64, name: &str) -> Group {
        let group = Group(self.groups);
        self.groups += 1;
        self.tty.start(at(now), group, &Title::new(name));
        group
    }

    /// What is to be seen.
    fn show(&mut self) -> String {
        // The terminal driver does that to what is written.
        self.terminal.process(self.tty.take().replace('\n', "\r\n").as_bytes());
        self.terminal.screen().contents()
    }

    fn tick(&mut self, now: u64) -> String {
        self.tty.tick(at(now));
        self.show()
    }

    fn finish(&mut self, now: u64) -> String {
        self.tty.finish(at(now));
        self.show()
    }
}

#[test]
fn what_runs_is_drawn_over_and_what_ended_stays() {
    let mut screen = Screen::new(12, 50);
    let base = screen.start(0, "[1/3] FROM debian");
    screen.tty.end(at(0), base, &End::Cached(Hit::Definition));
    let one = screen.start(0, "[2/3] RUN make");
    let two = screen.start(0, "[other 1/1] RUN curl");
    screen.tty.output(at(10), one, LogStream::Stdout, b"\x1b[2Jcc -c\tmain.c\n\x1b[31mwarning\x1b[0m: 1\npartial");
    screen.tty.output(at(10), two, LogStream::Stderr, b"\r10%\r20%");
    insta::assert_snapshot!(screen.tick(100), @r"
     => CACHED [1/3] FROM debian                  0.0s
    [+] Building 0.1s (1/3)
     => [2/3] RUN make                            0.1s
     => => cc -c    main.c
     => => warning: 1
     => => partial
     => [other 1/1] RUN curl                      0.1s
     => => 20%
    ");
    screen.tty.output(at(150), two, LogStream::Stderr, b"\r100%\n");
    screen.tty.end(at(1250), two, &End::Done);
    insta::assert_snapshot!(screen.tick(1300), @r"
     => CACHED [1/3] FROM debian                  0.0s
     => [other 1/1] RUN curl                      1.2s
    [+] Building 1.3s (2/3)
     => [2/3] RUN make                            1.3s
     => => cc -c    main.c
     => => warning: 1
     => => partial
    ");
    screen.tty.end(at(1400), one, &End::Failed("exit code: 2".to_owned()));
    insta::assert_snapshot!(screen.finish(1400), @r"
     => CACHED [1/3] FROM debian                  0.0s
     => [other 1/1] RUN curl                      1.2s
     => ERROR [2/3] RUN make                      1.4s
    [+] Building 1.4s (3/3) FINISHED
    ");
    assert_eq!(screen.finish(1500), screen.show());
    assert!(!screen.tty.waits());
    assert_eq!(screen.tty.tail(one).last().map(String::as_str), Some("1.400 partial"));
}

#[test]
fn more_steps_than_lines_fit() {
    let mut screen = Screen::new(6, 40);
    let groups: Vec<_> = (0..10).map(|number| screen.start(0, &format!("step {number}"))).collect();
    screen.tty.output(at(1), groups[0], LogStream::Stdout, b"one\ntwo\n");
    insta::assert_snapshot!(screen.tick(100), @r"
    [+] Building 0.1s (0/10)
     => step 0                          0.1s
     => step 1                          0.1s
     => step 2                          0.1s
     => and 7 more
    ");
    screen.tick(200);
    for group in groups {
        screen.tty.end(at(300), group, &End::Done);
    }
    screen.tty.finish(at(400));
    let last = screen.tty.take();
    for number in 0..10 {
        assert_eq!(last.lines().filter(|line| line.contains(&format!(" => step {number} "))).count(), 1, "{last}");
    }
}

/// Whatever the size, a frame leaves no line of the one before it.
#[test]
fn frames_leave_nothing_behind() {
    for rows in 1..8 {
        for columns in [1, 5, 20, 80] {
            let mut screen = Screen::new(rows, columns);
            let groups: Vec<_> = (0..3).map(|number| screen.start(0, &format!("日本 step {number}"))).collect();
            for time in 1..20_u64 {
                let line = "語".repeat(time as usize);
                screen.tty.output(at(time), groups[0], LogStream::Stdout, format!("{line}\n").as_bytes());
                let shown = screen.tick(time);
                let headings = shown.lines().filter(|line| line.starts_with('[')).count();
                assert!(headings <= 1, "{rows}x{columns}: {shown}");
            }
        }
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    for colour in [false, true] {
        let mut tty = Tty::new(colour, || Size { rows: 10, columns: 40 });
        tty.start(at(0), Group(0), &Title::new("RUN"));
        tty.output(at(0), Group(0), LogStream::Stdout, b"\x1b[31mred\n");
        tty.tick(at(1));
        tty.end(at(2), Group(0), &End::Done);
        tty.finish(at(2));
        let text = tty.take();
        assert_eq!(text.contains("\x1b[31m"), colour);
        assert_eq!(text.contains("\x1b[34m"), colour);
    }
}
