package waiting

import (
	"fmt"
	"net"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

const (
	// joinPort is the joining port of an appliance.
	joinPort = "7500"
	// serversMax bounds where a box asks; a site has 32 boxes.
	serversMax = 32
	tokenMark  = "HF1"
)

// readPaste reads what somebody pastes: a token alone, or the whole line that `holdfast site join-token` printed, whose servers count.
// Errors: ErrForm, those of join.ParseToken.
func readPaste(text string) (t *join.Token, servers []string, err error) {
	words := strings.Fields(text)
	token := ""
	for i := 0; i < len(words); i++ {
		w := words[i]
		if strings.HasPrefix(w, tokenMark) {
			token = w
			continue
		}
		list, given := strings.CutPrefix(w, "--server=")
		if w == "--server" && i+1 < len(words) {
			i++
			list, given = words[i], true
		}
		if given {
			servers = append(servers, list)
		}
	}
	if token == "" {
		return nil, nil, fmt.Errorf("%w: paste the token, which begins with %s", ErrForm, tokenMark)
	}
	if t, err = join.ParseToken(token); err != nil {
		return nil, nil, err
	}
	servers, err = readServers(strings.Join(servers, " "))
	return t, servers, err
}

// readServers reads addresses between commas and white space; one without a port has that of an appliance. Errors: ErrForm.
func readServers(text string) (servers []string, err error) {
	for _, s := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r <= ' ' }) {
		if len(servers) == serversMax {
			return nil, fmt.Errorf("%w: name at most %d servers", ErrForm, serversMax)
		}
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), joinPort)
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// readWish reads a form. Errors: ErrForm, those of join.ParseToken.
func readWish(found bool, value func(name string) string) (Wish, error) {
	w := Wish{Box: coord.Member{Name: strings.TrimSpace(value("name")), Peer: strings.TrimSpace(value("peer"))}}
	if w.Box.Peer != "" {
		if _, _, err := net.SplitHostPort(w.Box.Peer); err != nil {
			return w, fmt.Errorf("%w: the address where other boxes reach this one is HOST:PORT: %w", ErrForm, err)
		}
	}
	if found {
		return w, nil
	}
	more, err := readServers(value("servers"))
	if err != nil {
		return w, err
	}
	var pasted []string
	if w.Token, pasted, err = readPaste(value("token")); err != nil {
		return w, err
	}
	if w.Servers = append(pasted, more...); len(w.Servers) == 0 {
		return w, fmt.Errorf("%w: name the address of a box of the site", ErrForm)
	}
	return w, nil
}
