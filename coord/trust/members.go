package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
)

const (
	// SiteFile is the name of the member set in a box's data directory.
	SiteFile = "site.json"
	// siteFileBytesMax bounds what is read of it: a member is at most about 2 KiB of
	// JSON (four addresses of addressBytesMax, a key of 91 bytes in base64), and coord.MembersMax is 32.
	siteFileBytesMax = 128 << 10
	siteFileMode     = 0o644
	// nameBytesMax and addressBytesMax bound what is shown in tables and logs. 253 is the longest DNS name
	// (RFC 1035, 2.3.4), and 6 a port with its colon.
	nameBytesMax    = 64
	addressBytesMax = 253 + 6
)

// LoadMembers reads site.json in dir and checks it with CheckMembers. A missing file is fs.ErrNotExist.
//
// Errors: ErrSiteFile, ErrMembers, or what the file system says.
func LoadMembers(dir string) (*coord.Members, error) {
	return LoadMembersFile(filepath.Join(dir, SiteFile))
}

// LoadMembersFile is LoadMembers for a copy of the file, whatever its name.
func LoadMembersFile(path string) (*coord.Members, error) {
	data, _, err := readBounded(path, siteFileBytesMax)
	if errors.Is(err, errTooLong) || errors.Is(err, errNotRegular) {
		return nil, fmt.Errorf("trust: read site: %w: %s: %w; copy %s from another box of the site", ErrSiteFile, path, err, SiteFile)
	}
	if err != nil {
		return nil, fmt.Errorf("trust: read site: %w", err)
	}
	m, err := parseMembers(data)
	if err != nil {
		return nil, fmt.Errorf("trust: read site: %s: %w; correct it, or copy %s from another box of the site", path, err, SiteFile)
	}
	return m, nil
}

// SaveMembers checks m and writes it to site.json in dir, replacing what is there as a whole.
//
// Errors: ErrMembers, or what the file system says.
func SaveMembers(dir string, m *coord.Members) error {
	if err := CheckMembers(m); err != nil {
		return fmt.Errorf("trust: write site: %w", err)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("trust: write site: %w", err)
	}
	if err := replaceFile(dir, filepath.Join(dir, SiteFile), append(data, '\n'), siteFileMode); err != nil {
		return fmt.Errorf("trust: write site: %w", err)
	}
	return nil
}

// CheckMembers says whether m can be a site: 1 to coord.MembersMax members, each with a
// P-256 key that its id is the hash of, ids and names not double, a peer address and well-formed
// others (an empty one is not served). The error is ErrMembers and names the member and the field.
func CheckMembers(m *coord.Members) error {
	if m.Site == (coord.SiteID{}) {
		return fmt.Errorf("%w: site: is all zero; a site has a random id", ErrMembers)
	}
	if _, err := memberKeys(m); err != nil {
		return err
	}
	names := make(map[string]int, len(m.List))
	for i := range m.List {
		b := &m.List[i]
		if err := checkName(b.Name); err != nil {
			return fmt.Errorf("%w: members[%d].name: %w", ErrMembers, i, err)
		}
		if j, ok := names[b.Name]; ok {
			return fmt.Errorf("%w: members[%d].name: %q is members[%d]'s name too", ErrMembers, i, b.Name, j)
		}
		names[b.Name] = i
		for _, a := range []struct {
			field, value string
			required     bool
		}{{"peer", b.Peer, true}, {"client", b.Client, false}, {"native", b.Native, false}, {"console", b.Console, false}} {
			if a.value == "" && !a.required {
				continue
			}
			if err := checkAddress(a.value); err != nil {
				return fmt.Errorf("%w: members[%d].%s: %w", ErrMembers, i, a.field, err)
			}
		}
	}
	return nil
}

func parseMembers(data []byte) (*coord.Members, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	m := new(coord.Members)
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSiteFile, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the member set", ErrSiteFile)
	}
	if err := CheckMembers(m); err != nil {
		return nil, err
	}
	return m, nil
}

func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > nameBytesMax:
		return fmt.Errorf("is longer than %d bytes", nameBytesMax)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%q has a character that cannot be printed", s)
		}
	}
	return nil
}

func checkAddress(s string) error {
	if len(s) > addressBytesMax {
		return fmt.Errorf("is longer than %d bytes", addressBytesMax)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if host == "" {
		return fmt.Errorf("%q has no host: others cannot dial it", s)
	}
	for _, r := range host {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%q has a character that no host name has", s)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port from 1 to 65535", s)
	}
	return nil
}
