package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/image/pinned"
)

func TestVersionsAreOrderedAsDebianOrdersThem(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		dpkg = ""
	}
	all := []string{"6.12.9-1", "6.12.117-1~deb12u1", "6.12.117-1", "6.12.117-1+b1", "1:2.0", "252.39-1~deb12u2", "252.39-1~deb12u10", "0009", "9", "a", "1.0~rc1", "1.0", "1.0a", "1.0+x", "", "1.0-", "10", "~", "~~"}
	for _, a := range all {
		if compareVersions(a, a) != 0 {
			t.Errorf("%q is not itself", a)
		}
		for _, b := range all {
			got := compareVersions(a, b)
			if got != -compareVersions(b, a) {
				t.Errorf("%q and %q have no order", a, b)
			}
			// dpkg takes no empty version, and nothing without a digit in front.
			if dpkg == "" || a == "" || b == "" || strings.Trim(a+b, "~a") == "" || strings.HasSuffix(a, "-") || strings.HasSuffix(b, "-") {
				continue
			}
			word := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[got]
			if err := exec.Command(dpkg, "--compare-versions", a, word, b).Run(); err != nil {
				t.Errorf("dpkg says that %q is not %s %q", a, word, b)
			}
		}
	}
}

func TestTheNewestOfASeriesIsTaken(t *testing.T) {
	index := `Package: linux-image-6.12.9+deb12-arm64
Version: 6.12.9-1~deb12u1
Filename: pool/9.deb
Size: 9
SHA256: 99

Package: linux-image-6.12.117+deb12-arm64
Version: 6.12.117-1~deb12u1
Filename: pool/117.deb
Size: 117
SHA256: 11

Package: linux-image-6.12.200+deb12-cloud-arm64
Version: 6.12.200-1~deb12u1

Package: linux-image-6.12.90+deb12-arm64
Version: 6.12.90-1~deb12u1
Filename: pool/90.deb
Size: 90
SHA256: 90
`
	best := map[string]Package{}
	if err := newest(strings.NewReader(index), "debian", "arm64", best); err != nil {
		t.Fatal(err)
	}
	if p := best["kernel arm64"]; p.Path != "pool/117.deb" || p.Size != 117 || p.Role != "kernel" || p.SHA256 != "11" {
		t.Errorf("%+v", p)
	}
	if err := newest(strings.NewReader("Package: x\nSize: many\n"), "debian", "arm64", best); !errors.Is(err, ErrPins) {
		t.Errorf("a size that is no number: %v", err)
	}
}

func TestAnArchiveMayHaveAPlaceOfItsOwn(t *testing.T) {
	asked := make(chan string, 1)
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.EscapedPath()
		fmt.Fprint(w, "body")
	}))
	defer mirror.Close()
	sum := sha256.Sum256([]byte("body"))
	s := Store{Store: pinned.Store{Dir: t.TempDir()}, Mirror: mirror.URL + "/all/", Archives: map[string]string{"debian-security": mirror.URL + "/own/"}}
	for archive, want := range map[string]string{"debian": "/all/debian/pool/a%2Bb.deb", "debian-security": "/own/pool/a%2Bb.deb"} {
		p := Package{Name: archive, Archive: archive, Path: "pool/a+b.deb", Size: 4, SHA256: hex.EncodeToString(sum[:])}
		s.Dir = t.TempDir() // the bytes are the same, and would be in the cache
		f, err := s.Get(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if got := <-asked; got != want {
			t.Errorf("%s was asked for at %s, want %s", archive, got, want)
		}
	}
}

func TestPinsThatMakeNoSenseAreRefused(t *testing.T) {
	good := string(builtin)
	for name, text := range map[string]string{
		"no TOML":         "[[",
		"an unknown key":  good + "\nmore = 1\n",
		"a path upwards":  strings.Replace(good, "pool/main", "pool/../x", 1),
		"no hash":         strings.Replace(good, "sha256 = \"2959", "sha256 = \"29", 1),
		"no size":         strings.Replace(good, "size = 95472", "size = 0", 1),
		"another archive": strings.Replace(good, "\"debian\"", "\"other\"", 1),
	} {
		if text == good {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := DecodePins([]byte(text)); !errors.Is(err, ErrPins) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is not a package is refused without a panic.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("!<arch>\ndata.tar.xz     0           0     0     100644  4         `\nabcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, _, err := Files(context.Background(), strings.NewReader(string(b)), func(string) bool { return true })
		if err != nil && files != nil {
			t.Errorf("%v with %d files", err, len(files))
		}
	})
}
