//! The apt sources of a base: those it is made from, and those that stay in it.

use dsimg_template::template::Distro;

use super::recipe::Recipe;

/// Where a distribution's packages and its security updates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Archive {
    main: String,
    security: String,
}

impl Archive {
    /// The recipe's mirror, or the distribution's own hosts: what stays in the image.
    pub(super) fn of_image(recipe: &Recipe) -> Self {
        match (&recipe.mirror, recipe.distro) {
            (Some(mirror), distro) => Self::of_mirror(distro, mirror),
            (None, Distro::Debian) => Self {
                main: "http://deb.debian.org/debian".to_owned(),
                security: "http://deb.debian.org/debian-security".to_owned(),
            },
            (None, Distro::Ubuntu) => Self {
                main: "http://archive.ubuntu.com/ubuntu".to_owned(),
                security: "http://security.ubuntu.com/ubuntu".to_owned(),
            },
        }
    }

    /// The recipe's mirror; else the one that the build is told to use; else the distribution's own hosts.
    pub(super) fn of_build(recipe: &Recipe, network_mirror: Option<&str>) -> Self {
        match network_mirror {
            Some(mirror) if recipe.mirror.is_none() => Self::of_mirror(recipe.distro, mirror.trim_end_matches('/')),
            _ => Self::of_image(recipe),
        }
    }

    /// A mirror of Debian has the security updates beside it by custom; one with another name than `debian` is
    /// taken to hold both. Ubuntu's are in the one archive.
    fn of_mirror(distro: Distro, mirror: &str) -> Self {
        let is_usual = distro == Distro::Debian && mirror.ends_with("/debian");
        let security = if is_usual { format!("{mirror}-security") } else { mirror.to_owned() };
        Self { main: mirror.to_owned(), security }
    }

    /// As arguments of mmdebstrap, each checked against the host's keyring.
    pub(super) fn lines(&self, recipe: &Recipe) -> Vec<String> {
        let (keyring, components) = (keyring(recipe.distro), recipe.components.join(" "));
        self.suites(recipe)
            .into_iter()
            .flat_map(|(url, suites)| suites.into_iter().map(move |suite| (url, suite)))
            .map(|(url, suite)| format!("deb [signed-by={keyring}] {url} {suite} {components}"))
            .collect()
    }

    /// As a file for `/etc/apt/sources.list.d/`.
    pub(super) fn deb822(&self, recipe: &Recipe) -> String {
        let (keyring, components) = (keyring(recipe.distro), recipe.components.join(" "));
        let paragraph = |(url, suites): (&str, Vec<String>)| {
            let suites = suites.join(" ");
            format!("Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: {components}\nSigned-By: {keyring}\n")
        };
        self.suites(recipe).into_iter().map(paragraph).collect::<Vec<_>>().join("\n")
    }

    fn suites(&self, recipe: &Recipe) -> [(&str, Vec<String>); 2] {
        let suite = &recipe.suite;
        [
            (&self.main, vec![suite.clone(), format!("{suite}-updates")]),
            (&self.security, vec![format!("{suite}-security")]),
        ]
    }

    /// For people.
    pub(super) fn url(&self) -> &str {
        &self.main
    }
}

/// On the host and in the image alike.
pub(crate) fn keyring(distro: Distro) -> &'static str {
    match distro {
        Distro::Debian => "/usr/share/keyrings/debian-archive-keyring.gpg",
        Distro::Ubuntu => "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    }
}

/// The package that has it, in either distribution.
pub(crate) fn keyring_package(distro: Distro) -> &'static str {
    match distro {
        Distro::Debian => "debian-archive-keyring",
        Distro::Ubuntu => "ubuntu-keyring",
    }
}

#[cfg(test)]
mod tests {
    use dsimg_template::template::Bootstrap;

    use super::super::recipe::tests::{bootstrap, recipe};
    use super::*;

    fn with_mirror(mirror: &str) -> Recipe {
        recipe(&Bootstrap { mirror: Some(mirror.to_owned()), ..bootstrap(Distro::Debian, "trixie") }).unwrap()
    }

    #[test]
    fn debian_has_its_security_updates_beside_it() {
        let recipe = recipe(&bootstrap(Distro::Debian, "trixie")).unwrap();
        let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        assert_eq!(
            Archive::of_image(&recipe).lines(&recipe),
            [
                format!("deb {key} http://deb.debian.org/debian trixie main"),
                format!("deb {key} http://deb.debian.org/debian trixie-updates main"),
                format!("deb {key} http://deb.debian.org/debian-security trixie-security main"),
            ]
        );
    }

    #[test]
    fn ubuntu_s_sources_as_its_images_have_them() {
        let recipe = recipe(&bootstrap(Distro::Ubuntu, "noble")).unwrap();
        assert_eq!(
            Archive::of_image(&recipe).deb822(&recipe),
            "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\nSuites: noble noble-updates\n\
             Components: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n\n\
             Types: deb\nURIs: http://security.ubuntu.com/ubuntu\nSuites: noble-security\n\
             Components: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn the_recipe_s_mirror_stays_and_the_build_s_does_not() {
        let plain = recipe(&bootstrap(Distro::Debian, "trixie")).unwrap();
        let build = Archive::of_build(&plain, Some("http://mirror.corp/debian/"));
        assert_eq!(build.security, "http://mirror.corp/debian-security");
        assert!(Archive::of_image(&plain).url().contains("deb.debian.org"));

        let own = with_mirror("https://own.example.org/debian");
        assert_eq!(Archive::of_build(&own, Some("http://mirror.corp/debian")), Archive::of_image(&own));
        assert!(Archive::of_image(&own).deb822(&own).contains("URIs: https://own.example.org/debian-security\n"));
    }

    #[test]
    fn a_mirror_of_another_name_holds_both() {
        let merged = with_mirror("https://own.example.org/apt/all");
        assert_eq!(Archive::of_image(&merged).security, "https://own.example.org/apt/all");
    }
}
