package setupcode

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestASetupCodeIsMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first, err := Of(dir)
	if err != nil || !regexp.MustCompile(`^([A-Z2-7]{4}-){3}[A-Z2-7]{4}$`).MatchString(first) {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := Of(dir); again != first || err != nil {
		t.Errorf("%q, %v, was %q", again, err, first)
	}
	if info, err := os.Stat(filepath.Join(dir, File)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	other, err := Of(t.TempDir())
	if err != nil || other == first {
		t.Errorf("another box has %q, %v", other, err)
	}
	for _, bad := range []string{"", "ABCD", first + first, "../../../../../../.."} {
		if err := os.WriteFile(filepath.Join(dir, File), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Of(dir); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q is taken as %q", bad, got)
		}
	}
}

func TestACodeIsTheSameHoweverAPersonWritesIt(t *testing.T) {
	const code = "ABCD-EFGH-IJKL-MN23"
	for _, good := range []string{code, "abcdefghijklmn23", " abcd efgh\tIJKL-mn23\n"} {
		if !Same(code, good) {
			t.Errorf("%q is another", good)
		}
	}
	for _, bad := range []string{"", "ABCD", code + "A", "ABCD-EFGH-IJKL-MN24", strings.Repeat(code, 100)} {
		if Same(code, bad) {
			t.Errorf("%q is the same", bad)
		}
	}
}
