package coord

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrMembers says that bytes are not a member set, or not one that a site can have.
var ErrMembers = errors.New("coord: not a member set")

const (
	memberNameBytesMax    = 64
	memberAddressBytesMax = 253 + 6
)

// p256Prefix is what stands before the point in a P-256 key's PKIX DER.
var p256Prefix = [...]byte{
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
	0x07, 0x03, 0x42, 0x00,
}

// DecodeMembers reads the JSON of a member set and checks all that boxes rely on when they begin an epoch with it, so that no decision
// can leave the site with a set that some box cannot use. It takes nothing that trust.CheckMembers refuses, but for sites without
// any keys (those of the simulator). Fields of later releases are passed over: boxes of two releases must agree. Errors: ErrMembers.
func DecodeMembers(b []byte) (*Members, error) {
	m := new(Members)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMembers, err)
	}
	if m.Site == (SiteID{}) || m.N() < 1 || m.N() > MembersMax {
		return nil, fmt.Errorf("%w: site %v with %d members", ErrMembers, m.Site, m.N())
	}
	names, ids := map[string]bool{}, map[BoxID]bool{}
	for i := range m.List {
		b := &m.List[i]
		if names[b.Name] || ids[b.ID] || b.ID == (BoxID{}) {
			return nil, fmt.Errorf("%w: member %d: its name or id is empty, or that of another", ErrMembers, i)
		}
		names[b.Name], ids[b.ID] = true, true
		if err := b.check(len(m.List[0].Key) == 0); err != nil {
			return nil, fmt.Errorf("%w: member %d: %w", ErrMembers, i, err)
		}
	}
	return m, nil
}

// check judges one member; keyless says that nobody has a key.
func (b *Member) check(keyless bool) error {
	// A later Unicode makes more characters printable: boxes of two releases may disagree on a name with one that was new between them.
	if b.Name == "" || len(b.Name) > memberNameBytesMax || !utf8.ValidString(b.Name) ||
		strings.ContainsFunc(b.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("the name %q is empty, too long or cannot be printed", b.Name)
	}
	if keyless {
		if len(b.Key) > 0 {
			return errors.New("it has a key and others have not")
		}
		return nil
	}
	if !bytes.HasPrefix(b.Key, p256Prefix[:]) || b.ID != BoxIDOf(b.Key) {
		return errors.New("its key is not on P-256, or another's")
	}
	if _, err := ecdh.P256().NewPublicKey(b.Key[len(p256Prefix):]); err != nil {
		return err
	}
	if b.Peer == "" {
		return errors.New("it has no address for other boxes")
	}
	for _, a := range [...]string{b.Peer, b.Client, b.Native, b.Console} {
		if a != "" && !hostPort(a) {
			return fmt.Errorf("%q is not host:port", a)
		}
	}
	return nil
}

// hostPort says whether a is host:port or [host]:port, with a port from 1 to 65535 and nothing that no host name has.
func hostPort(a string) bool {
	i := strings.LastIndexByte(a, ':')
	if i < 1 || len(a) > memberAddressBytesMax {
		return false
	}
	host, port := a[:i], 0
	for _, c := range a[i+1:] {
		if c < '0' || c > '9' || port > 65535 {
			return false
		}
		port = 10*port + int(c-'0')
	}
	if host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return false
	}
	return port >= 1 && port <= 65535 && host != "" &&
		!strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || r == '[' || r == ']' })
}
