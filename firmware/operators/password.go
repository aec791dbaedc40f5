package operators

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// passwordMin characters: whoever has the site's documents can try passwords at home (NIST SP 800-63B asks for 8 where only the
	// verifier can try).
	passwordMin = 12
	// passwordBytesMax bounds what is hashed.
	passwordBytesMax = 256
	// differentMin is how many different characters there must be: "aaaaaaaaaaaa" is none.
	differentMin = 5
)

// CheckPassword says whether a password is good enough for the operator name. There are no rules about digits and capitals: they
// make passwords that people write down (NIST SP 800-63B, 3.1.1). Errors: ErrPassword, with what to do.
func CheckPassword(name, password string) error {
	seen := map[rune]bool{}
	for _, r := range password {
		seen[r] = true
	}
	lower := strings.ToLower(password)
	switch {
	case len(password) > passwordBytesMax || !utf8.ValidString(password):
		return fmt.Errorf("%w: at most %d bytes of text", ErrPassword, passwordBytesMax)
	case utf8.RuneCountInString(password) < passwordMin:
		return fmt.Errorf("%w: at least %d characters; three or four words are good and easy to keep", ErrPassword, passwordMin)
	case len(seen) < differentMin:
		return fmt.Errorf("%w: it repeats too few characters", ErrPassword)
	case name != "" && len(name) > 2 && strings.Contains(lower, name) && len(password)-len(name) < passwordMin:
		return fmt.Errorf("%w: it is little more than the name", ErrPassword)
	case common(lower):
		return fmt.Errorf("%w: it is one that everybody tries first", ErrPassword)
	}
	return nil
}

// lettersMin is how many letters must be left when the words that everybody tries first are taken away.
const lettersMin = 4

// common says that a password is little more than such words, with digits and signs between them.
func common(lower string) bool {
	rest := lower
	for _, w := range []string{
		"password", "passwort", "holdfast", "qwertyuiop", "qwerty", "qwertz", "asdfgh", "admin", "letmein", "welcome", "changeme", "operator", "secret",
		"abcdef", "iloveyou",
	} {
		rest = strings.ReplaceAll(rest, w, "")
	}
	letters := 0
	for _, r := range rest {
		if unicode.IsLetter(r) {
			letters++
		}
	}
	return letters < lettersMin
}
