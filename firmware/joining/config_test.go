package joining_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/joining"
)

func TestABoxIsListedWhereOthersReachIt(t *testing.T) {
	parse := func(text string) *config.Config {
		c, err := config.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, tc := range map[string]struct {
		text  string
		given coord.Member
		want  coord.Member
		err   error
	}{
		"all from the configuration": {
			"name = \"a\"\n[peer]\nlisten = \"10.0.0.1:7400\"\n[client]\nlisten = \"10.0.0.1:2379\"\n",
			coord.Member{},
			coord.Member{Name: "a", Peer: "10.0.0.1:7400", Client: "10.0.0.1:2379", Native: "10.0.0.1:2380"},
			nil,
		},
		"what is given goes first": {
			"name = \"a\"\n[peer]\nlisten = \"10.0.0.1:7400\"\n[client]\nlisten = \"\"\n",
			coord.Member{Name: "b", Peer: "box.example:1"},
			coord.Member{Name: "b", Peer: "box.example:1"},
			nil,
		},
		"a site on one machine": {
			"name = \"a\"\n[peer]\nlisten = \"127.0.0.1:7400\"\n",
			coord.Member{},
			coord.Member{Name: "a", Peer: "127.0.0.1:7400", Client: "127.0.0.1:2379", Native: "127.0.0.1:2380", Console: "127.0.0.1:8080"},
			nil,
		},
		"everywhere is nowhere": {"name = \"a\"\n[peer]\nlisten = \"0.0.0.0:7400\"\n", coord.Member{}, coord.Member{}, joining.ErrEntry},
		"everywhere is the machine's address": {
			"name = \"a\"\n[peer]\nlisten = \":7400\"\n[client]\nlisten = \"0.0.0.0:2379\"\n[join]\naddress = \"2001:db8::1\"\n",
			coord.Member{},
			coord.Member{Name: "a", Peer: "[2001:db8::1]:7400", Client: "[2001:db8::1]:2379", Native: "[2001:db8::1]:2380"},
			nil,
		},
		"no name": {"[peer]\nlisten = \"10.0.0.1:7400\"\n", coord.Member{}, coord.Member{}, joining.ErrEntry},
	} {
		got, err := joining.Entry(parse(tc.text), tc.given)
		if !errors.Is(err, tc.err) || err == nil && (got.Name != tc.want.Name || got.Peer != tc.want.Peer || got.Client != tc.want.Client || got.Native != tc.want.Native || got.Console != tc.want.Console) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestABoxJoinsByItsConfiguration(t *testing.T) {
	s := newSite(t, 1)
	_, at := port(t, s, 4)
	c, err := config.Default()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, err := trust.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.DataDir, c.Name, c.Peer.Listen = dir, "new", nobody(t)
	if err := joining.FromConfig(within(t), c, key, func(joining.Progress) {}); err != nil {
		t.Fatalf("without a token: %v", err)
	}
	c.Join.TokenFile, c.Join.Servers = filepath.Join(dir, "token"), []string{at}
	if err := joining.FromConfig(within(t), c, key, func(joining.Progress) {}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without the file: %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(c.Join.TokenFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("nonsense")
	if err := joining.FromConfig(within(t), c, key, func(joining.Progress) {}); !errors.Is(err, join.ErrToken) {
		t.Fatalf("with rubbish: %v", err)
	}
	write(s.token(t).Text() + "\n")
	if err := joining.FromConfig(within(t), c, key, func(joining.Progress) {}); err != nil {
		t.Fatal(err)
	}
	m, err := trust.LoadMembers(dir)
	if err != nil || m.Index(key.ID()) != 1 || m.Epoch != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
}
