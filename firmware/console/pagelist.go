package console

import "slices"

// pageList is what the console has, in the order of the navigation. A page whose part is not configured is not in it.
func (c *Console) pageList() []*page {
	return slices.Concat([]*page{
		{
			path: home, title: "Overview", name: "overview", group: "Site", live: true, data: c.overviewData,
			sections: []part{
				{"verdict", "bare"}, {"firing", "bare"}, {"tiles", "bare"}, {"map", "half tall"}, {"members", "half"}, {"decisions", "half"}, {"past", "bare"}, {"durations", "half tall"}, {"blocks", "half"}, {"top", "half"},
			},
			needs: map[string]string{"firing": "alarm.read", "decisions": "decision.list", "blocks": "site.read", "top": actionGet},
		},
		{
			path: "/boxes", title: "Boxes", name: "boxes", group: "Site", action: "member.list", live: true, data: c.boxesData,
			acts:     []string{"member.remove", "join.token", actionCrash},
			sections: []part{{"list", ""}, {"links", ""}, {"machine", "half"}, {"health", "half"}, {"network", ""}, {"join", "half bare"}},
			needs:    map[string]string{"machine": "hal.read", "health": "hal.read", "network": "hal.read"},
		},
		{
			path: pageOfLog, title: "Log", name: "log", group: "Site", action: actionLog, live: true, data: c.logData,
			sections: []part{{"list", ""}},
		},
		{
			path: pageOfLog + "/{height}", title: "Block", name: "block", action: actionLog, data: c.blockData,
			sections: []part{{"head", "half tall"}, {"certificate", "half"}, {"batches", "half"}, {"messages", ""}},
		},
		{
			path: pageOfKeys, title: "Keys", name: "keys", group: "Site", listed: actionGet, live: true, share: byPrincipal, data: c.keysData,
			acts: []string{actionPut}, sections: []part{{"browse", ""}, {"changes", "half"}, {"new", "half"}},
		},
		{
			path: pageOfOneKey, title: "Key", name: "key", live: true, share: byPrincipal, data: c.keyData,
			acts: []string{actionPut, actionDelete}, sections: []part{{"value", ""}, {"edit", "half"}, {"versions", "half"}},
		},
	}, c.metricsPages(), c.anomalyPages(), c.tracePages(), c.alarmPages(), []*page{
		{
			path: "/trust", title: "Trust", name: "trust", group: "Trust", action: "trust.read", live: true, data: c.trustData,
			sections: []part{{"standing", ""}, {"evidence", ""}}, needs: map[string]string{"evidence": "evidence.read"},
		},
		{
			path: "/decisions", title: "Decisions", name: "decisions", group: "Trust", action: "decision.list", live: true, data: c.decisionsData,
			acts: []string{"decision.approve", "decision.refuse"}, sections: []part{{"open", "bare"}, {"ended", ""}},
		},
		{
			path: "/audit", title: "Audit", name: "audit", group: "Trust", action: "audit.read", live: true, data: c.auditData,
			sections: []part{{"filter", "bare"}, {"records", ""}, {"heads", ""}, {"export", ""}},
		},
		{
			path: "/operators", title: "Operators", name: "operators", group: "Manage", action: "role.list", share: bySession, live: true, data: c.operatorsData,
			acts:     []string{"operator.add", "operator.disable", "operator.reset", "session.end"},
			sections: []part{{"list", ""}, {"add", "half bare"}, {"passkeys", ""}, {"sessions", ""}},
		},
		{
			path: pageOfSettings, title: "Settings", name: "settings", group: "Manage", live: true, data: c.settingsData,
			acts: []string{
				"setting.put", "setting.remove", "role.grant", "role.revoke", "role.put", "role.remove", "policy.put", "policy.remove",
				"token.issue", "token.revoke", "token.epoch",
			},
			sections: []part{
				{"site", ""}, {"config", ""}, {"grants", "half"}, {"roles", "half"}, {"policies", ""}, {"issued", ""}, {"issue", "half tall"}, {"tokens", "half"}, {"revoke", "half"},
			},
			needs: map[string]string{
				"site": actionRoles, "config": actionConfig, "grants": actionRoles, "roles": actionRoles, "policies": actionRoles,
				"tokens": actionTokens, "issued": "audit.read", "issue": "token.issue", "revoke": "token.revoke",
			},
		},
	}, c.updatePages())
}
