// Saving votes: the server sends a file's bytes, the browser keeps them under a name.
for (const button of element.querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const file = await server.votes({ kind: button.dataset.kind });
    element.querySelector("[role=status]").textContent = file.says || "";
    if (!file.data) return;
    const bytes = Uint8Array.from(atob(file.data), (character) => character.charCodeAt(0));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes]));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
