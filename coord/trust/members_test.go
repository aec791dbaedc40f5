package trust_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

func TestTheSiteFileKeepsTheMemberSet(t *testing.T) {
	_, m := newSite(t, 4)
	dir := t.TempDir()
	for range 2 { // the second replaces the first
		m.Epoch++
		if err := trust.SaveMembers(dir, m); err != nil {
			t.Fatal(err)
		}
		got, err := trust.LoadMembers(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("read %+v, wrote %+v", got, m)
		}
	}
	info, err := os.Stat(filepath.Join(dir, trust.SiteFile))
	if err != nil || info.Mode() != 0o644 {
		t.Fatalf("mode %v, error %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Fatalf("directory holds %v, want the file alone (error %v)", entries, err)
	}
}

func TestTheLargestSiteFitsItsFile(t *testing.T) {
	_, m := newSite(t, coord.MembersMax)
	long := strings.Repeat("h", 253) + ":65535"
	for i := range m.List {
		b := &m.List[i]
		b.Name = string(rune('A'+i)) + strings.Repeat("\\", 63)
		b.Peer, b.Client, b.Native, b.Console = long, long, long, long
	}
	dir := t.TempDir()
	if err := trust.SaveMembers(dir, m); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.LoadMembers(dir); err != nil {
		t.Fatal(err)
	}
}

func TestAMissingSiteFileIsNotADamagedOne(t *testing.T) {
	if _, err := trust.LoadMembers(t.TempDir()); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, trust.ErrSiteFile) {
		t.Fatalf("error %v, want fs.ErrNotExist", err)
	}
}

func TestABadMemberSetIsNamedByItsField(t *testing.T) {
	_, good := newSite(t, 3)
	for _, tt := range []struct {
		name   string
		change func(*coord.Members)
		says   string
	}{
		{"no site", func(m *coord.Members) { m.Site = coord.SiteID{} }, "site: "},
		{"no members", func(m *coord.Members) { m.List = nil }, "0 members"},
		{"too many", func(m *coord.Members) { m.List = make([]coord.Member, 33) }, "33 members"},
		{"an id that is not the key's", func(m *coord.Members) { m.List[1].ID[0]++ }, "members[1].id"},
		{"a damaged key", func(m *coord.Members) { m.List[2].Key[50]++ }, "members[2].key"},
		{"one box twice", func(m *coord.Members) { m.List[2] = m.List[0] }, "members[2].id"},
		{"a name twice", func(m *coord.Members) { m.List[2].Name = m.List[0].Name }, "members[2].name"},
		{"no name", func(m *coord.Members) { m.List[0].Name = "" }, "members[0].name"},
		{"a long name", func(m *coord.Members) { m.List[0].Name = strings.Repeat("x", 65) }, "members[0].name"},
		{"an escape in a name", func(m *coord.Members) { m.List[0].Name = "a\x1b[2J" }, "members[0].name"},
		{"no peer address", func(m *coord.Members) { m.List[0].Peer = "" }, "members[0].peer"},
		{"no port", func(m *coord.Members) { m.List[0].Peer = "10.0.0.1" }, "members[0].peer"},
		{"port zero", func(m *coord.Members) { m.List[0].Client = "10.0.0.1:0" }, "members[0].client"},
		{"a port too high", func(m *coord.Members) { m.List[0].Native = "10.0.0.1:65536" }, "members[0].native"},
		{"a service for a port", func(m *coord.Members) { m.List[0].Console = "h:http" }, "members[0].console"},
		{"no host", func(m *coord.Members) { m.List[0].Peer = ":7400" }, "members[0].peer"},
		{"a space in a host", func(m *coord.Members) { m.List[0].Peer = "a b:7400" }, "members[0].peer"},
	} {
		bad := clone(good)
		tt.change(bad)
		dir := t.TempDir()
		if err := trust.SaveMembers(dir, bad); !errors.Is(err, trust.ErrMembers) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: save says %v, want ErrMembers with %q", tt.name, err, tt.says)
		}
		data, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := load(t, data); !errors.Is(err, trust.ErrMembers) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: load says %v, want ErrMembers with %q", tt.name, err, tt.says)
		}
	}
}

func TestADamagedSiteFileIsRefused(t *testing.T) {
	_, m := newSite(t, 3)
	whole, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"truncated":        string(whole[:len(whole)-1]),
		"followed":         string(whole) + "{}",
		"an unknown field": strings.Replace(string(whole), `"epoch"`, `"weight":1,"epoch"`, 1),
		"a short id":       strings.Replace(string(whole), m.Site.String(), "0102", 1),
		"an array":         "[" + string(whole) + "]",
		"too long":         string(whole) + strings.Repeat(" ", 1<<20),
	} {
		if err := load(t, []byte(text)); !errors.Is(err, trust.ErrSiteFile) || !strings.Contains(err.Error(), "from another box") {
			t.Errorf("%s: error %v, want ErrSiteFile and what to do", name, err)
		}
	}
}

func load(t *testing.T, data []byte) error {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, trust.SiteFile), data, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := trust.LoadMembers(dir)
	return err
}

// FuzzSiteFile: whatever site.json holds, what is loaded loads as the same when saved, and makes a verifier.
func FuzzSiteFile(f *testing.F) {
	_, m := newSite(f, 3)
	whole, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"site":"0102030000000000","epoch":1,"members":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := trust.ParseMembers(data)
		if err != nil {
			if !errors.Is(err, trust.ErrSiteFile) && !errors.Is(err, trust.ErrMembers) {
				t.Fatalf("error %v is neither ErrSiteFile nor ErrMembers", err)
			}
			return
		}
		newVerifier(t, m)
		saved, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := trust.ParseMembers(saved)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("read %+v, then %+v (error %v)", m, again, err)
		}
	})
}
