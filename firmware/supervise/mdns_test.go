package supervise

import (
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/firmware/supervise/nettest"
	"golang.org/x/net/dns/dnsmessage"
)

func TestTheMachineAnswersToItsNameOnTheNetwork(t *testing.T) {
	if !nettest.Inside(t) {
		return
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, // what one has to say to oneself goes there
		{"link", "add", "hf0", "type", "veth", "peer", "name", "hf1"},
		{"addr", "add", "10.9.0.2/24", "dev", "hf0"},
		{"link", "set", "hf0", "up"},
		{"link", "set", "hf1", "up"},
		{"route", "add", "224.0.0.0/4", "dev", "hf0"},
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %v: %v %s", args, err, out)
		}
	}
	c, err := respond("box-1.local")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	// Who asks from another port than 5353 gets its answer there (RFC 6762, 6.7).
	asked, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	query := func(name string) []byte {
		m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// Somebody else's name first: its answer would come before the second one's.
	answers := map[string]netip.Addr{}
	limit := time.Now().Add(20 * time.Second)
	var buf [9000]byte
	for answers["box-1.local."] == (netip.Addr{}) {
		if time.Now().After(limit) {
			t.Fatal("nobody answers")
		}
		for _, name := range []string{"box-2.local.", "box-1.local."} {
			if _, err := asked.WriteToUDP(query(name), group); err != nil {
				t.Fatal(err)
			}
		}
		if err := asked.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := asked.ReadFromUDP(buf[:])
			if err != nil {
				break
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || !m.Response {
				continue
			}
			for _, a := range m.Answers {
				if r, ok := a.Body.(*dnsmessage.AResource); ok {
					answers[a.Header.Name.String()] = netip.AddrFrom4(r.A)
				}
			}
		}
	}
	if answers["box-1.local."] != netip.MustParseAddr("10.9.0.2") || len(answers) != 1 {
		t.Errorf("%v", answers)
	}
}
