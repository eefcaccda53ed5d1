//! Reads kiln's plain progress (`#5 [build 2/4] RUN make`, `#5 CACHED`, `#5 DONE 0.1s`) back into steps.

/// What was told of a build, step by step in the order of first mention.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    steps: Vec<Told>,
}

/// What was told of one step.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its number in the output.
    pub number: u32,
    /// The line that introduced it.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// What it printed, without the times in front.
    pub log: Vec<String>,
    /// The line of the output on which it was first mentioned.
    pub first_line: usize,
    /// The line of the output on which its end was told.
    pub last_line: usize,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was said.
    Open,
    /// It ran.
    Done,
    /// It was found in the cache.
    Cached,
    /// It failed.
    Failed,
    /// It was stopped.
    Canceled,
}

impl Progress {
    /// Reads what kiln printed on stderr.
    pub fn parse(text: &str) -> Self {
        let mut progress = Self::default();
        for (index, line) in text.lines().enumerate() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else { continue };
            let Ok(number) = number.parse() else { continue };
            progress.line(index, number, rest);
        }
        progress
    }

    fn line(&mut self, index: usize, number: u32, rest: &str) {
        let Some(step) = self.steps.iter_mut().find(|step| step.number == number) else {
            let name = rest.to_owned();
            let told = Told { number, name, end: End::Open, log: Vec::new(), first_line: index, last_line: index };
            self.steps.push(told);
            return;
        };
        let end = match rest.split(' ').next() {
            Some("DONE") => End::Done,
            Some("CACHED") => End::Cached,
            Some("ERROR:" | "ERROR") => End::Failed,
            Some("CANCELED") => End::Canceled,
            // The step gave way to another, or comes back.
            _ if rest == "..." || rest == step.name => return,
            _ => {
                step.log.push(without_time(rest).to_owned());
                return;
            }
        };
        // A step that is found in the cache may be told as `CACHED` and then `DONE`.
        if step.end != End::Cached {
            step.end = end;
        }
        step.last_line = index;
    }

    /// All steps.
    pub fn steps(&self) -> &[Told] {
        &self.steps
    }

    /// The first step whose name has a text in it.
    pub fn find(&self, text: &str) -> Option<&Told> {
        self.steps.iter().find(|step| step.name.contains(text))
    }

    /// The first step whose name has a text in it; panics where there is none.
    pub fn step(&self, text: &str) -> &Told {
        self.find(text).unwrap_or_else(|| panic!("no step `{text}` in {:#?}", self.steps))
    }

    /// Whether such a step was run to its end.
    pub fn ran(&self, text: &str) -> bool {
        self.find(text).is_some_and(|step| step.end == End::Done)
    }

    /// Whether such a step was found in the cache.
    pub fn cached(&self, text: &str) -> bool {
        self.find(text).is_some_and(|step| step.end == End::Cached)
    }

    /// The names of the steps that carried out an instruction.
    pub fn ran_instructions(&self) -> Vec<&str> {
        const KEYWORDS: [&str; 4] = ["] RUN ", "] COPY ", "] ADD ", "] WORKDIR "];
        let is_instruction = |name: &str| KEYWORDS.iter().any(|keyword| name.contains(keyword));
        self.steps
            .iter()
            .filter(|step| step.end != End::Cached && is_instruction(&step.name))
            .map(|step| step.name.as_str())
            .collect()
    }
}

/// `0.123 text` without the seconds in front.
fn without_time(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, rest)) if time.parse::<f64>().is_ok() => rest,
        _ if line.parse::<f64>().is_ok() => "",
        _ => line,
    }
}
