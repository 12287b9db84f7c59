// The pages that links in mails lead to. A button sends the link's secret to the API; opening a page spends nothing.
"use strict";

(() => {
  const api = document.documentElement.dataset.api;
  const form = document.querySelector("form[data-flow]");
  const status = document.getElementById("status");

  // The secret leaves the address bar, the history and what is copied from them, and survives a reload.
  const token = new URLSearchParams(location.search).get("token") ?? history.state?.token ?? "";
  if (location.search) history.replaceState({ token }, "", location.pathname);

  const say = (text, failed = false) => {
    status.className = failed ? "failed" : "";
    status.textContent = text;
  };

  class Refusal extends Error {
    constructor(error) {
      const details = (error.details ?? []).map((each) => `${each.field}: ${each.message}`);
      super([error.message, ...details].join("\n"));
      this.code = error.code ?? "";
    }
  }

  // One call of the API: the JSON of a success, or the response itself for a file. Throws Refusal.
  const call = async (method, path, body, bearer, file = false) => {
    const headers = { Accept: "application/json" };
    if (body) headers["Content-Type"] = "application/json";
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    const options = { method, headers, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };
    if (body) options.body = JSON.stringify(body);
    const response = await fetch(api + path, options);
    if (response.ok && file) return response;
    const answer = response.status === 204 ? {} : await response.json();
    if (!response.ok) throw new Refusal(answer.error ?? {});
    return answer;
  };

  // Logged in for one piece of work, and out again.
  const loggedIn = async (email, password, work) => {
    const login = (await call("POST", "/auth/login", { email, password })).data;
    try {
      return await work(login.access_token);
    } finally {
      await call("POST", "/auth/logout", null, login.access_token).catch(() => {});
    }
  };

  const offer = async (response, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };

  const show = (article) => {
    document.querySelector("h1").textContent = article.title;
    document.title = article.title;
    const place = document.getElementById("article");
    place.innerHTML = article.body_html; // made safe by the server; the page's policy runs no script of it
    place.hidden = false;
    form.hidden = true;
  };

  const contentPath = () => `/content/${encodeURIComponent(location.pathname.split("/").pop())}`;

  // Each gives the words for its success.
  const flows = {
    async verify(fields, pressed) {
      if (pressed?.name === "refuse") {
        await call("POST", "/auth/verify-email/refuse", { token });
        return "It is ended. You need do nothing more.";
      }
      const asked = fields.password ? { token, password: fields.password } : { token };
      await call("POST", "/auth/verify-email", asked);
      return "The address is confirmed. You can log in.";
    },
    async reset(fields) {
      await call("POST", "/auth/password/reset", { token, new_password: fields.password });
      return "The password is changed. Log in with the new one.";
    },
    async forgot(fields) {
      await call("POST", "/auth/password/forgot", { email: fields.email });
      return "If the address has an account, a mail has been sent.";
    },
    async undo() {
      await call("POST", "/auth/undo-email-change", { token });
      return "The change is undone. Choose a new password with the mail that is on its way.";
    },
    async unsubscribe() {
      await call("POST", `/notifications/unsubscribe?token=${encodeURIComponent(token)}`, {});
      return "You will not get these mails any more.";
    },
    async export(fields) {
      await loggedIn(fields.email, fields.password, async (bearer) => {
        const file = await call("POST", "/users/me/export/download", { token }, bearer, true);
        await offer(file, "callboard-export.zip");
      });
      return "The download has begun.";
    },
    async content(fields) {
      await loggedIn(fields.email, fields.password, async (bearer) => {
        show((await call("GET", contentPath(), null, bearer)).data);
      });
      return "";
    },
  };

  const busy = (on) => {
    for (const button of form.querySelectorAll("button")) button.disabled = on;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    busy(true);
    say("One moment …");
    try {
      say(await flows[form.dataset.flow](fields, event.submitter));
      form.hidden = true;
    } catch (error) {
      const more = [...form.querySelectorAll("[data-when]")].find((each) => error.code?.startsWith(each.dataset.when));
      if (more) {
        more.hidden = false;
        more.querySelector("input").required = true;
        more.querySelector("input").focus();
      }
      say(error instanceof Refusal ? error.message : "The server cannot be reached. Try again.", true);
    } finally {
      busy(false);
    }
  });

  if (form.dataset.flow === "content") {
    call("GET", contentPath()).then(
      (answer) => show(answer.data),
      (error) => {
        if (error instanceof Refusal) form.hidden = false;
        else say("The server cannot be reached. Try again.", true);
      },
    );
  } else if (!token && form.dataset.flow !== "forgot") {
    say("The link is not complete. Open it from the mail once more.", true);
    busy(true);
  }
})();
