package audit

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// OCSFVersion is the version of the Open Cybersecurity Schema Framework (schema.ocsf.io) that AppendOCSF writes.
const OCSFVersion = "1.3.0"

// OCSF's numbers: category 3 is Identity & Access Management, 6 Application Activity; an event's type is class*100 + activity.
const (
	ocsfAuthentication = 3002
	ocsfAPIActivity    = 6003
	ocsfSuccess        = 1
	ocsfFailure        = 2
	ocsfOther          = 99
	ocsfInformational  = 1
	ocsfLow            = 2
	ocsfMedium         = 3
)

// activities are OCSF's activity numbers of API Activity: 1 create, 2 read, 3 update, 4 delete.
var activities = map[string]int{
	"create": 1, "add": 1, "grant": 1, "issue": 1, "join": 1, "found": 1, "open": 1, "init": 1,
	"get": 2, "read": 2, "range": 2, "list": 2, "watch": 2, "status": 2, "inspect": 2, "export": 2, "verify": 2, "prove": 2, "explain": 2,
	"put": 3, "txn": 3, "update": 3, "renew": 3, "replace": 3, "rotate": 3, "attenuate": 3, "approve": 3, "set": 3, "lead": 3, "compact": 3,
	"delete": 4, "revoke": 4, "remove": 4, "expel": 4, "close": 4,
}

// logons are those of Authentication: 1 logon, 2 logoff.
var logons = map[string]int{"login": 1, "setup": 1, "passkey": 1, "token": 1, "logout": 2, "expire": 2}

type (
	ocsfProduct struct {
		Name    string `json:"name"`
		Vendor  string `json:"vendor_name"`
		Version string `json:"version,omitempty"`
	}
	ocsfMetadata struct {
		Version   string      `json:"version"`
		Product   ocsfProduct `json:"product"`
		UID       string      `json:"uid"`
		Sequence  int64       `json:"sequence"`
		EventCode string      `json:"event_code"`
	}
	ocsfNamed struct {
		Name string `json:"name,omitempty"`
		UID  string `json:"uid,omitempty"`
	}
	ocsfAuthorization struct {
		Decision string     `json:"decision"`
		Policy   *ocsfNamed `json:"policy,omitempty"`
	}
	ocsfActor struct {
		User           ocsfNamed           `json:"user"`
		Authorizations []ocsfAuthorization `json:"authorizations,omitempty"`
	}
	ocsfAPI struct {
		Operation string     `json:"operation"`
		Request   *ocsfNamed `json:"request,omitempty"`
		Service   ocsfNamed  `json:"service"`
	}
	ocsfEndpoint struct {
		IP   string `json:"ip,omitempty"`
		Port uint16 `json:"port,omitempty"`
		Name string `json:"name,omitempty"`
		UID  string `json:"uid,omitempty"`
	}
	ocsfEvent struct {
		ClassUID     int               `json:"class_uid"`
		ClassName    string            `json:"class_name"`
		CategoryUID  int               `json:"category_uid"`
		ActivityID   int               `json:"activity_id"`
		ActivityName string            `json:"activity_name,omitempty"`
		TypeUID      int               `json:"type_uid"`
		SeverityID   int               `json:"severity_id"`
		Time         int64             `json:"time"`
		StatusID     int               `json:"status_id"`
		StatusDetail string            `json:"status_detail,omitempty"`
		Metadata     ocsfMetadata      `json:"metadata"`
		Actor        ocsfActor         `json:"actor"`
		User         *ocsfNamed        `json:"user,omitempty"`
		Service      *ocsfNamed        `json:"service,omitempty"`
		API          *ocsfAPI          `json:"api,omitempty"`
		Resources    []ocsfNamed       `json:"resources,omitempty"`
		Source       ocsfEndpoint      `json:"src_endpoint"`
		Target       ocsfEndpoint      `json:"dst_endpoint"`
		Unmapped     map[string]string `json:"unmapped,omitempty"`
	}
)

const (
	vendor  = "Holdfast"
	product = "holdfast"
	// nobody stands where a format wants a name and there is none.
	nobody = "unknown"
)

// AppendOCSF appends one line of JSON, an OCSF event: Authentication (3002) for actions of the area auth, API Activity (6003) for all
// others. version is that of the firmware.
func AppendOCSF(b []byte, e *Entry, version string) []byte {
	area, verb, _ := strings.Cut(e.Action, ".")
	who := ocsfNamed{Name: e.Principal}
	if who.Name == "" {
		who.Name = nobody
	}
	v := ocsfEvent{
		ClassUID: ocsfAPIActivity, ClassName: "API Activity", CategoryUID: 6, ActivityID: activities[verb], Time: e.TimeMs,
		SeverityID: ocsfInformational, StatusID: ocsfSuccess, StatusDetail: e.Reason,
		Metadata: ocsfMetadata{
			Version: OCSFVersion, Product: ocsfProduct{Name: product, Vendor: vendor, Version: version},
			UID: fmt.Sprintf("%v:%d", e.Box, e.Index), Sequence: e.Index, EventCode: e.Action,
		},
		Actor:  ocsfActor{User: who},
		Source: endpointOf(e.Source),
		Target: ocsfEndpoint{UID: e.Box.String()},
	}
	switch e.Outcome {
	case Denied:
		v.SeverityID, v.StatusID = ocsfMedium, ocsfFailure
	case Failed:
		v.SeverityID, v.StatusID = ocsfLow, ocsfFailure
	}
	decision := "allowed"
	if e.Outcome == Denied {
		decision = "denied"
	}
	v.Actor.Authorizations = []ocsfAuthorization{{Decision: decision}}
	if e.Policy != "" {
		v.Actor.Authorizations[0].Policy = &ocsfNamed{UID: e.Policy}
	}
	if area == "auth" {
		v.ClassUID, v.ClassName, v.CategoryUID, v.ActivityID = ocsfAuthentication, "Authentication", 3, logons[verb]
		v.User, v.Service = &who, &ocsfNamed{Name: product}
	} else {
		v.API = &ocsfAPI{Operation: e.Action, Service: ocsfNamed{Name: product}}
		if e.Request != "" {
			v.API.Request = &ocsfNamed{UID: e.Request}
		}
	}
	if v.ActivityID == 0 {
		v.ActivityID, v.ActivityName = ocsfOther, e.Action
	}
	v.TypeUID = v.ClassUID*100 + v.ActivityID
	if e.Resource != "" && area != "auth" {
		v.Resources = []ocsfNamed{{Name: e.Resource}}
	}
	// Authentication has no place for these.
	add := func(key, value string, when bool) {
		if when && value != "" {
			if v.Unmapped == nil {
				v.Unmapped = map[string]string{}
			}
			v.Unmapped[key] = value
		}
	}
	add("resource", e.Resource, area == "auth")
	add("request", e.Request, area == "auth")
	add("revision", strconv.FormatUint(e.Revision, 10), e.Revision > 0)
	line, err := json.Marshal(&v)
	if err != nil { // strings and numbers only
		panic(err)
	}
	return append(append(b, line...), '\n')
}

// endpointOf reads host:port where it is an IP address, and takes anything else as a name.
func endpointOf(source string) ocsfEndpoint {
	if a, err := netip.ParseAddrPort(source); err == nil {
		return ocsfEndpoint{IP: a.Addr().Unmap().WithZone("").String(), Port: a.Port()}
	}
	if source == "" {
		source = nobody
	}
	return ocsfEndpoint{Name: source}
}

// cefHeader escapes backslash and pipe; a header has no line ends (ArcSight Common Event Format, "Character Encoding").
var cefHeader = strings.NewReplacer(`\`, `\\`, `|`, `\|`)

// cefValue escapes backslash, equal sign and line ends; a pipe is no delimiter there.
var cefValue = strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)

// printable puts a space for what some reader might take as the end of a line or as a command to a terminal; keep is not replaced.
func printable(s, keep string) string {
	return strings.Map(func(r rune) rune {
		control := r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029
		if control && !strings.ContainsRune(keep, r) {
			return ' '
		}
		return r
	}, s)
}

// AppendCEF appends one line in ArcSight's Common Event Format, version 0:
//
//	CEF:0|Holdfast|holdfast|VERSION|ACTION|ACTION OUTCOME|SEVERITY|key=value key=value ...
//
// with dictionary keys where there are (rt, act, outcome, suser, reason, externalId, dvchost, src and spt or c6a2 or shost) and custom ones
// with their labels (cs1 resource, cs2 policy, cn1 index, cn2 revision). Empty texts are left out.
func AppendCEF(b []byte, e *Entry, version string) []byte {
	head := func(s string) {
		b = append(b, cefHeader.Replace(printable(s, ""))...)
		b = append(b, '|')
	}
	first := true
	pair := func(key, value string) {
		if value == "" {
			return
		}
		if !first {
			b = append(b, ' ')
		}
		first = false
		b = append(append(b, key...), '=')
		b = append(b, cefValue.Replace(printable(value, "\r\n"))...)
	}
	labelled := func(key, label, value string) {
		if value != "" {
			pair(key+"Label", label)
			pair(key, value)
		}
	}
	severity := map[Outcome]string{Allowed: "1", Failed: "4", Denied: "6"}[e.Outcome]
	b = append(b, "CEF:0|"...)
	for _, s := range []string{vendor, product, version, e.Action, e.Action + " " + e.Outcome.String(), severity} {
		head(s)
	}
	pair("rt", strconv.FormatInt(e.TimeMs, 10))
	pair("dvchost", e.Box.String())
	pair("act", e.Action)
	pair("outcome", e.Outcome.String())
	pair("suser", e.Principal)
	if a, err := netip.ParseAddrPort(e.Source); err != nil {
		pair("shost", e.Source)
	} else if ip := a.Addr().Unmap().WithZone(""); ip.Is4() {
		pair("src", ip.String())
		pair("spt", strconv.Itoa(int(a.Port())))
	} else {
		labelled("c6a2", "Source IPv6 Address", ip.String())
		pair("spt", strconv.Itoa(int(a.Port())))
	}
	pair("reason", e.Reason)
	pair("externalId", e.Request)
	labelled("cs1", "resource", e.Resource)
	labelled("cs2", "policy", e.Policy)
	labelled("cn1", "index", strconv.FormatInt(e.Index, 10))
	if e.Revision > 0 {
		labelled("cn2", "revision", strconv.FormatUint(e.Revision, 10))
	}
	return append(b, '\n')
}
