//! The names of the instructions.

use crate::suggest;

macro_rules! keywords {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// Which instruction it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Keyword {
            $($variant),*
        }

        impl Keyword {
            /// Every one of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As people write it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

keywords! {
    From "FROM", Run "RUN", Copy "COPY", Add "ADD", Env "ENV", Arg "ARG", Workdir "WORKDIR", User "USER",
    Label "LABEL", Expose "EXPOSE", Volume "VOLUME", Entrypoint "ENTRYPOINT", Cmd "CMD", Shell "SHELL",
    Stopsignal "STOPSIGNAL", Healthcheck "HEALTHCHECK", Onbuild "ONBUILD", Maintainer "MAINTAINER",
}

impl Keyword {
    /// By its name in any case.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|keyword| keyword.name().eq_ignore_ascii_case(name))
    }

    /// The one that was probably meant.
    pub(crate) fn nearest(name: &str) -> Option<&'static str> {
        suggest::nearest(name, Self::ALL.iter().map(|keyword| keyword.name()))
    }
}
